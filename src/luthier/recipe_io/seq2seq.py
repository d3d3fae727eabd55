"""What makes no sense together with `seq2seq`, and what only it can do."""

from collections.abc import Iterator

from luthier.core.yaml import Where
from luthier.evaluate.spec import FROM_SOURCE, READ_OFF
from luthier.export.spec import form_of
from luthier.recipe import Recipe
from luthier.recipe_io.explain import Problem
from luthier.recipe_io.heads import FORMS, unused
from luthier.train.spec import is_seq2seq

NAME = "`seq2seq`"
OF_NO_USE: dict[Where, str] = {
    ("train", "neftune_noise_alpha"): "source and target share their embedding, and the noise is for one of them",
    ("train", "layer_decay"): "encoder and decoder each count layers of their own",
    ("evaluate", "shots"): "an encoder-decoder is shown no examples",
    ("evaluate", "harness"): "lm-eval asks models that go on with a text",
}
ADAPTERS = ("lora", "full")
"""What was tried with encoder-decoders."""


def seq2seq_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield what `seq2seq`, or another method, contradicts; only values that a person wrote count."""
    yield from _of_seq2seq(recipe) if is_seq2seq(recipe.train.method) else _of_others(recipe)


def _of_seq2seq(recipe: Recipe) -> Iterator[Problem]:
    yield from unused(recipe, OF_NO_USE, "there is no fast step for encoder-decoders")
    if recipe.train.adapter.name not in ADAPTERS:
        what = f"{NAME} does not go with the adapter `{recipe.train.adapter.name}`"
        yield Problem(("train", "adapter"), what, hint=f"there is {', '.join(f'`{one}`' for one in ADAPTERS)}")
    if recipe.data.render in ("chat", "text"):
        what = f"{NAME} learns from a source and a target, without turns or a chat template"
        yield Problem(("data", "render"), what, hint="set it to `source`, or leave it out")
    wrong = [form_of(one).name for one in recipe.export if form_of(one).name not in FORMS]
    if wrong:
        what = f"an encoder-decoder cannot be exported as `{wrong[0]}`: engines of that form only go on with a text"
        yield Problem(("export",), what, hint="write `export: [merged]`, `[adapter]`, or both")
    yield from _baselines(recipe, [one for one in _named(recipe) if one not in FROM_SOURCE])


def _of_others(recipe: Recipe) -> Iterator[Problem]:
    if recipe.data.render == "source":
        what = f"`{recipe.train.method.name}` does not learn from a source and a target apart"
        yield Problem(("data", "render"), what, hint="leave it out, or train with `method: seq2seq`")
    if not recipe.train.method.heads:
        odd = [one for one in _named(recipe) if one in READ_OFF]
        if odd:
            hint = "leave it out, or train with `method: seq2seq`"
            yield Problem(("evaluate", "baselines"), f"`{odd[0]}` is a baseline of `seq2seq` only", hint=hint)


def _baselines(recipe: Recipe, odd: list[str]) -> Iterator[Problem]:
    if odd:
        hint = f"there are {', '.join(FROM_SOURCE)}"
        yield Problem(("evaluate", "baselines"), f"`{odd[0]}` is no baseline of {NAME}", hint=hint)


def _named(recipe: Recipe) -> list[str]:
    spec = recipe.evaluate
    return [] if spec is None or spec.baselines == "auto" else list(spec.baselines)
