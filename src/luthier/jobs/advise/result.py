"""What advise found, typed; `advice.json` is this."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from luthier.advise.verdict.decide import Choice
from luthier.core.artifacts import Comparison, Estimate, Family, HarnessResult


class Frozen(BaseModel):
    """A part of the result."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Alternative(Frozen):
    """One alternative, measured on the held-out rows."""

    name: str
    family: Family
    value: Estimate
    """In the primary metric, with its 95 % interval over rows; the mean of all trainings."""
    trainings: int = 1
    """With how many seeds it was trained; their spread is in the comparisons."""
    prompt_tokens: float
    latency_s: float
    """Mean seconds per answer, batched."""
    cost_per_1000: float
    """Of 1,000 requests, in the price table's currency."""
    seconds: float
    """How long measuring it took."""
    train_rows: int | None = None
    train_seconds: float = 0.0


class MoreRows(Frozen):
    """What more rows would bring tuning, and its 95 % interval."""

    times: float
    value: float
    low: float
    high: float


class Forgotten(Frozen):
    """The general probes before and after tuning."""

    perplexity_before: float
    perplexity_after: float
    right_before: int
    right_after: int
    questions: int


class OfBase(Frozen):
    """What was found with one base model."""

    base_model: str
    choice: Choice
    chosen: str
    """Name of the alternative that the choice stands for."""
    reasons: tuple[str, ...]
    sensitivity: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    alternatives: tuple[Alternative, ...]
    more_rows: MoreRows | None
    forgotten: Forgotten | None
    harness: tuple[HarnessResult, ...] = ()
    """What it forgets, in the tasks of lm-eval that were asked for."""
    costs: dict[str, str]
    """Facts on what a tuning costs and needs, each under its name."""
    benefits: dict[str, str]
    left_out: dict[str, str]
    """What was not measured, and why."""

    @property
    def best(self) -> Alternative:
        """The chosen alternative."""
        return next(one for one in self.alternatives if one.name == self.chosen)


class Advised(Frozen):
    """The answer to: should this be fine-tuned at all?"""

    kind: Literal["advice"] = "advice"
    goal: str | None
    task: str
    task_because: str
    metric: str
    rows: dict[str, int]
    held_out: int
    """Rows that every alternative answered."""
    bases: tuple[OfBase, ...]
    base_model: str
    """The base model of the verdict: the one whose chosen alternative is best."""
    choice: Choice
    verdict: str
    """In one or two sentences."""
    folder: Path
    recipe: Path
    seconds: float
    budget_s: float

    @property
    def of_best(self) -> OfBase:
        """What was found with the verdict's base model."""
        return next(one for one in self.bases if one.base_model == self.base_model)
