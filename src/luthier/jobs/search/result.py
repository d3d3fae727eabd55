"""What a search found, as programs read it and as it lies in the search's folder."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from luthier.core.artifacts import Comparison
from luthier.jobs.search.strategy import LOSS
from luthier.score.names import title_of

State = Literal["done", "pruned", "failed", "unfinished"]
OWN = 0
"""The number of the trial that has the recipe's own values."""
TITLES = {LOSS: "validation loss", "seconds": "seconds of training", "adapter_bytes": "bytes of weights"}
TITLES |= {"trainable_parameters": "trained parameters"}


class TrialResult(BaseModel):
    """One trial."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int
    """0 is the recipe as it is."""
    state: State
    tried: dict[str, Any]
    """The searched fields of the recipe, by path, as this trial had them."""
    values: tuple[float, ...] = ()
    """What it reached in each objective."""
    intervals: dict[str, tuple[float, float]] = {}
    """The 95 % interval of each objective that is a metric of answers."""
    validation_loss: float | None = None
    """Mean over the validation rows; of a trial that did not end, the last that was measured while it trained."""
    seconds: float | None = None
    """Seconds of training steps."""
    adapter_bytes: int | None = None
    trainable_parameters: int | None = None
    steps: int | None = None
    why: str | None = None
    """Why it failed, or when it was stopped."""


class Searched(BaseModel):
    """A search: its trials, the best of them, and how sure that is."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    folder: Path
    objectives: tuple[str, ...]
    sampler: str
    pruner: str
    asked: int
    """Trials that were asked for, beside the recipe's own values."""
    validation_rows: int
    dimensions: dict[str, str]
    """The searched fields by path, each with its range in words."""
    trials: list[TrialResult]
    best: int | None
    """The best trial's number: of the first objective where there are several; None while no trial has ended."""
    front: list[int] = []
    """With several objectives: the trials that no other beats in all of them."""
    importance: dict[str, float] = {}
    """Each field's share of the spread of the first objective, by fANOVA; empty after few trials."""
    comparison: Comparison | None = None
    """The best trial against the recipe's own values, row by row on the validation rows; p counts the trials."""
    conclusion: str
    """In words: what is best, and whether the difference could be noise."""
    recipe: Path | None = None
    """The best trial as a recipe, for `luthier run`."""

    @property
    def finished(self) -> bool:
        """Whether every trial that was asked for has ended."""
        return len(self.trials) == self.asked + 1 and all(trial.state != "unfinished" for trial in self.trials)

    def trial(self, number: int) -> TrialResult:
        """Return a trial by its number."""
        return next(trial for trial in self.trials if trial.number == number)


def objective_title(name: str) -> str:
    """Return what reports call an objective."""
    return TITLES.get(name) or title_of(name)


def number_text(value: float | None) -> str:
    """Write a value of an objective."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.5g}"


def value_text(value: Any) -> str:
    """Write a tried value."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tried_text(tried: dict[str, Any]) -> str:
    """Write what a trial tried: `learning_rate 0.0002, r 8`."""
    return ", ".join(f"{path.rsplit('.', 1)[-1]} {value_text(value)}" for path, value in tried.items())
