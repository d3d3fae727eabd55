"""Advice on the optimisation: how long, how many rows at once, how fast."""

import math

from luthier.advise.facts import Facts
from luthier.recipe import Advice, Recipe

EPOCHS = 3.0
PREFERENCE_EPOCHS = 1.0
HEAD_UPDATES = 150
"""A new head starts from nothing: so many updates at least, of the smallest usual batch."""
MOST_HEAD_EPOCHS = 20.0
FEWEST_UPDATES = 50
BATCH_SIZES = (32, 16, 8)
LARGE_BATCHES = (128, 64)
"""Where rows are compared with each other, more of them teach more."""
USUAL_BATCH = 16
CHECKS_PER_RUN = 10

# Smaller models take, and need, larger steps; these are LoRA's, and each adapter's traits say how its own compare.
LEARNING_RATES = ((0.3e9, 5e-4), (1e9, 3e-4), (4e9, 2e-4), (math.inf, 1e-4))
PREFERENCE_SHARE = 0.1
"""The loss of preferences has no floor: large steps push both answers down instead of the better one up."""


def pooling(recipe: Recipe, facts: Facts) -> Advice:
    """As the base's own vectors were trained."""
    if facts.model.pools_mean:
        because = "the base's vectors were trained as the mean over tokens"
        return Advice(path="train.method.pooling", value="mean", because=because)
    return Advice(path="train.method.pooling", value="model", because="usual for this kind of model")


def loss(recipe: Recipe, facts: Facts) -> Advice:
    """By what the rows tell."""
    if facts.data.answer_kind != "likeness":
        because = "each text's match against all other texts of the batch; more rows a batch make it harder"
        return Advice(path="train.method.loss", value="in_batch_negatives", because=because)
    if facts.data.labels:
        return Advice(path="train.method.loss", value="contrastive", because="two texts are alike or they are not")
    return Advice(path="train.method.loss", value="cosine", because="the rows say how alike two texts are")


def epochs(recipe: Recipe, facts: Facts) -> Advice:
    """Three passes: enough for a small set, few enough not to learn it by heart; of preferences one."""
    if recipe.train.method.takes_pairs:
        because = "usual for preferences, which are learnt by heart sooner than answers"
        return Advice(path="train.epochs", value=PREFERENCE_EPOCHS, because=because)
    if recipe.train.method.name == "embed":
        because = "usual: the vectors are there already, and are only moved"
        return Advice(path="train.epochs", value=EPOCHS, because=because)
    if recipe.train.method.heads:
        return Advice(
            path="train.epochs", value=_head_epochs(facts.data.rows), because="a new head starts from nothing"
        )
    return Advice(path="train.epochs", value=EPOCHS, because="usual: enough to learn, few enough not to learn by heart")


def _head_epochs(rows: int) -> float:
    wanted = math.ceil(HEAD_UPDATES * BATCH_SIZES[-1] / max(1, rows))
    return min(MOST_HEAD_EPOCHS, max(EPOCHS, float(wanted)))


def batch_size(recipe: Recipe, facts: Facts) -> Advice:
    """The largest usual batch that still makes enough updates."""
    rows, passes = facts.data.rows, recipe.train.epochs
    if passes is None:
        size = max(1, min(USUAL_BATCH, rows))
        return Advice(path="train.batch_size", value=size, because="usual where the steps are set")
    sizes = (*LARGE_BATCHES, *BATCH_SIZES) if getattr(recipe.train.method, "spans_batch", False) else BATCH_SIZES
    fitting = [size for size in sizes if rows * passes / size >= FEWEST_UPDATES]
    size = max(1, min(fitting[0] if fitting else BATCH_SIZES[-1], rows))
    updates = math.ceil(rows * passes / size)
    epochs = f"{passes:g} epoch{'' if passes == 1 else 's'}"
    because = f"about {rows:,} training rows and {epochs} make {updates:,} updates"
    return Advice(path="train.batch_size", value=size, because=because)


def learning_rate(recipe: Recipe, facts: Facts) -> Advice:
    """By size of the model, a tenth of it when all weights train, and a tenth again for preferences."""
    parameters = facts.model.parameters
    rate = next(rate for limit, rate in LEARNING_RATES if parameters < limit)
    adapter, pairs, optimizer = recipe.train.adapter, recipe.train.method.takes_pairs, recipe.train.optimizer
    value = usual_rate(rate, adapter.traits.rate * (optimizer.rate_share or 1), pairs=pairs)
    what = {"full": "all weights of a model", "lora": "an adapter on a model"}.get(
        adapter.name, f"`{adapter.name}` on a model"
    )
    because = f"usual for {what} of {_size(parameters)} parameters"
    if pairs:
        because = f"a tenth of the {because}: larger steps lower both answers"
    if optimizer.rate_share not in (None, 1.0):
        because = f"{because}, times {optimizer.rate_share:g} for {optimizer.name}"
    return Advice(path="train.learning_rate", value=value, because=because)


def usual_rate(lora: float, times: float, *, pairs: bool) -> float:
    """Return an adapter's usual learning rate, given LoRA's."""
    return float(f"{lora * times * (PREFERENCE_SHARE if pairs else 1):.0e}")


def checkpoint_every(recipe: Recipe, facts: Facts) -> Advice:
    """A tenth of the run."""
    steps = predicted_steps(recipe, facts)
    because = f"a tenth of about {steps:,} steps"
    return Advice(path="train.checkpoint_every", value=max(1, steps // CHECKS_PER_RUN), because=because)


def validate_every(recipe: Recipe, facts: Facts) -> Advice:
    """A tenth of the run."""
    steps = predicted_steps(recipe, facts)
    because = f"a tenth of about {steps:,} steps" if facts.data.has_validation else "there are no validation rows"
    return Advice(path="train.validate_every", value=max(1, steps // CHECKS_PER_RUN), because=because)


def alpha(recipe: Recipe, facts: Facts) -> Advice:
    """Twice the rank."""
    rank = getattr(recipe.train.adapter, "r", 0)
    return Advice(path="train.adapter.alpha", value=2.0 * rank, because=f"twice the rank of {rank}")


def target_modules(recipe: Recipe, facts: Facts) -> Advice:
    """Every linear layer but the LM head."""
    because = "every linear layer but the LM head"
    return Advice(path="train.adapter.target_modules", value=facts.model.linear_layers, because=because)


def predicted_steps(recipe: Recipe, facts: Facts) -> int:
    """Return how many updates the run will make, as far as the rows are known."""
    train = recipe.train
    if train.steps is not None:
        return train.steps
    size = facts.data.rows if train.batch_size == "auto" else train.batch_size
    return max(1, math.ceil((train.epochs or EPOCHS) * facts.data.rows / max(1, size)))


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.3g} M"
