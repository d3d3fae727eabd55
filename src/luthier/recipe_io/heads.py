"""What makes no sense together with a head, and what only a head can do."""

from collections.abc import Iterator, Mapping

from luthier.core.yaml import Where
from luthier.evaluate.spec import PROMPTED, READ_OFF, baselines_for
from luthier.export.spec import form_of
from luthier.recipe import Plan, Recipe
from luthier.recipe_io.explain import Problem
from luthier.score.names import metrics_for
from luthier.train.methods.embed.spec import MARGINS, EmbedSpec

NO_TURNS = "a head reads each text alone, as it stands"
NOTHING_WRITTEN = "a head writes nothing"
OF_NO_USE: dict[Where, str] = {
    ("data", "text_template"): NO_TURNS,
    ("data", "instruction"): NO_TURNS,
    ("train", "neftune_noise_alpha"): "its noise is for the rows of a model that writes",
    ("evaluate", "shots"): "a head is shown no examples",
    ("evaluate", "max_new_tokens"): NOTHING_WRITTEN,
    ("evaluate", "harness"): f"lm-eval asks for answers, and {NOTHING_WRITTEN}",
    ("evaluate", "user_metrics"): f"they judge answers, and {NOTHING_WRITTEN}",
}
NEAR = ("accuracy_at_1", "mrr_at_10", "ndcg_at_10", "triplet_accuracy")
"""Metrics of how near vectors are."""
FORMS = ("merged", "adapter")
ADAPTERS = ("lora", "full")
"""What is trained beside the heads of `qa` and `embed`; the others were not tried with them."""
VIRTUAL = "its virtual tokens stand before a conversation that a model goes on with, and a head reads the text alone"
ADAPTERS_OF_NO_USE = {
    "prompt_tuning": VIRTUAL,
    "prefix_tuning": VIRTUAL,
    "p_tuning": VIRTUAL,
    "llama_adapter": "its prompts are added to the attention of models that write",
}


def head_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield what the method's head, or the lack of one, contradicts; only values that a person wrote count."""
    written = _written(recipe)
    heads = recipe.train.method.heads
    yield from _of_head(recipe, written) if heads else _without_head(recipe, written)


def _of_head(recipe: Recipe, written: set[Where]) -> Iterator[Problem]:
    name = recipe.train.method.name
    yield from unused(recipe, OF_NO_USE, "there is no fast step for heads, which read each text whole")
    yield from _adapter_problems(recipe)
    if ("data", "too_long") in written and "quote" in recipe.train.method.heads:
        yield Problem(
            ("data", "too_long"), f"`{name}` cuts no text: it reads long ones in windows", hint="leave it out"
        )
    if recipe.data.render == "chat":
        yield Problem(
            ("data", "render"), f"`{name}` learns from raw text: {NO_TURNS}", hint="set it to `text`, or leave it out"
        )
    wrong = [form_of(one).name for one in recipe.export if form_of(one).name not in FORMS]
    if wrong:
        what = f"a model with a head cannot be exported as `{wrong[0]}`: engines of that form only write text"
        yield Problem(("export",), what, hint="write `export: [merged]`, `[adapter]`, or both")
    yield from _measures(recipe, written)
    if isinstance(recipe.train.method, EmbedSpec):
        yield from _of_vectors(recipe, recipe.train.method)


def _of_vectors(recipe: Recipe, method: EmbedSpec) -> Iterator[Problem]:
    """Yield options that the loss of vectors would not use."""
    users = {"temperature": ("in_batch_negatives",), "margin": tuple(MARGINS)}
    loss = method.loss if isinstance(method.loss, str) else "your own"
    for option, losses in users.items():
        if getattr(method, option) is not None and loss not in losses:
            names = " or ".join(f"`{name}`" for name in losses)
            what = f"the loss `{loss}` does not use `{option}`"
            yield Problem(("train", "method", option), what, hint=f"leave it out, or write `loss: {names}`")
    if recipe.train.batch_size == 1 and loss == "in_batch_negatives":
        what = "a batch of one row has no negatives"
        yield Problem(("train", "batch_size"), what, hint="take 32 or more: more rows make more negatives")


def unused(recipe: Recipe, of_no_use: Mapping[Where, str], no_fast_step: str) -> Iterator[Problem]:
    """Yield what a person wrote that the method has no use for, each with the reason."""
    written = _written(recipe)
    fast = [("train", option) for option in ("fast_step", "compile") if getattr(recipe.train, option) is True]
    for path, why in {**of_no_use, **dict.fromkeys(fast, no_fast_step)}.items():
        if path in written:
            yield Problem(path, f"`{recipe.train.method.name}` cannot use this: {why}", hint="leave it out")


def _adapter_problems(recipe: Recipe) -> Iterator[Problem]:
    name, adapter = recipe.train.method.name, recipe.train.adapter.name
    why = ADAPTERS_OF_NO_USE.get(adapter)
    if not why and name in ("qa", "embed") and adapter not in ADAPTERS:
        why = "only `lora` and `full` were tried with it"
    if why:
        what = f"`{name}` does not go with the adapter `{adapter}`: {why}"
        hint = "take `adapter: lora`, or another that stands within the layers"
        yield Problem(("train", "adapter"), what, hint=hint)


def _measures(recipe: Recipe, written: set[Where]) -> Iterator[Problem]:
    spec, kinds = recipe.evaluate, recipe.train.method.heads
    if spec is None:
        return
    known = {metric for kind in kinds for metric in metrics_for(kind)}
    wrong = (
        [one for one in spec.metrics if one not in known]
        if ("evaluate", "metrics") in written and spec.metrics != "auto"
        else []
    )
    if wrong:
        hint = f"there are {', '.join(sorted(known))}"
        yield Problem(("evaluate", "metrics"), f"`{wrong[0]}` does not measure what a head says", hint=hint)
    suiting = {name for kind in kinds for name in baselines_for(kind)}
    odd = [one for one in spec.baselines if one not in suiting] if spec.baselines != "auto" else []
    if odd:
        hint = f"there are {', '.join(sorted(suiting))}"
        yield Problem(
            ("evaluate", "baselines"), f"`{odd[0]}` is no baseline of `{recipe.train.method.name}`", hint=hint
        )


def _without_head(recipe: Recipe, written: set[Where]) -> Iterator[Problem]:
    name, spec = recipe.train.method.name, recipe.evaluate
    if recipe.data.render == "text":
        hint = "leave it out, or train with `method: classify`, `regress`, `extract`, `qa` or `embed`"
        yield Problem(
            ("data", "render"), f"`{name}` learns from conversations; only a head reads text alone", hint=hint
        )
    others = (*PROMPTED, *READ_OFF)
    odd = [one for one in spec.baselines if one not in others] if spec and spec.baselines != "auto" else []
    if odd:
        hint = f"there are {', '.join(PROMPTED)}"
        yield Problem(("evaluate", "baselines"), f"`{odd[0]}` is a baseline of heads only", hint=hint)
    of_heads = ("micro_f1", "subset_accuracy", "log_loss", "ece", "mae", "mse", "pearson", "spearman", *NEAR)
    wrong = (
        [one for one in spec.metrics if one in (*of_heads, "entity_precision", "entity_recall")]
        if spec and spec.metrics != "auto"
        else []
    )
    if wrong:
        hint = "take another, or train with `method: classify`, `regress`, `extract` or `qa`"
        yield Problem(
            ("evaluate", "metrics"), f"`{wrong[0]}` measures what a head says, and `{name}` has none", hint=hint
        )


def _written(recipe: Recipe) -> set[Where]:
    """Return the fields of data, training and evaluation that a person set to something else than the usual."""
    resolved = (
        {reason.path for reason in recipe.reasons if reason.source != "recipe"} if isinstance(recipe, Plan) else set()
    )
    found: set[Where] = set()
    for part in ("data", "train", "evaluate"):
        spec = getattr(recipe, part)
        for name in spec.model_fields_set if spec else ():
            usual = type(spec).model_fields[name].default
            if getattr(spec, name) != usual and f"{part}.{name}" not in resolved:
                found.add((part, name))
    return found
