"""What a person asks advice on."""

from dataclasses import dataclass
from pathlib import Path

from luthier.advise.verdict.prices import Prices

MOST_HELD_OUT = 400


@dataclass(frozen=True)
class Wanted:
    """What a person asks advice on."""

    files: tuple[str, ...]
    out: Path
    goal: str | None = None
    base_models: tuple[str, ...] = ("smollm2-135m-instruct",)
    documents: Path | None = None
    budget_s: float = 600.0
    prices: Prices = Prices()
    worthwhile: float | None = None
    """The smallest difference worth a dearer alternative; None takes 0.02, or 2 where the metric goes to 100."""
    seed: int = 7
    held_out: int = MOST_HELD_OUT
    """Held-out rows answered at most."""
    overrides: tuple[str, ...] = ()
    """Values of the recipe that tunings follow, as `train.adapter.r=8`."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-eval, by name or as task files, for what tuning makes the model forget."""
    seeds: int = 1
    """How often the largest tuning is trained, with seeds counted on from `seed`."""
