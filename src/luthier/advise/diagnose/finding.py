"""Finding: one named problem of a run; diagnosis: all that was found, and what could not be looked at."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Name = Literal[
    "overfitting",
    "underfitting",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "divergence",
    "loss-spikes",
    "bad-labels",
    "conflicting-labels",
    "template-mismatch",
    "never-stops",
    "truncated-rows",
    "leakage",
    "too-few-target-tokens",
    "dead-tensors",
    "data-bound",
    "memory-bound",
    "wrong-base",
]


class Told(BaseModel):
    """A frozen part of the diagnosis; each field carries its sentence."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Finding(Told):
    """One problem."""

    name: Name
    what: str
    """The problem in one sentence."""
    evidence: tuple[str, ...]
    """What it stands on: numbers, and rows as `file:row`."""
    confidence: float
    """From 0 to 1; the rule's docstring says how it is reckoned."""
    remedy: str
    """What to do."""
    patch: dict[str, object] = {}
    """Values of the recipe that help, by dotted path; empty where no value does."""


class NotChecked(Told):
    """A problem that could not be looked for."""

    name: Name
    why: str
    """What is missing for it."""


class Diagnosis(Told):
    """What `luthier diagnose` says, and what lies in `diagnosis.json`."""

    run: str
    """The run's folder."""
    state: str
    """How far the run came."""
    findings: tuple[Finding, ...]
    """What was found, the surest first."""
    healthy: tuple[Name, ...]
    """What was looked for and not found."""
    not_checked: tuple[NotChecked, ...]
    """What could not be looked for, and why."""
    plot: str | None = None
    """The picture of the losses."""


def sure(value: float) -> float:
    """Return a confidence between 0.5, where a threshold is just met, and 0.99."""
    return round(min(0.99, max(0.5, value)), 2)


def grown(value: float, threshold: float) -> float:
    """Return a confidence that is 0.5 at the threshold and 0.95 at four times of it."""
    return sure(0.5 + 0.15 * (value / threshold - 1)) if threshold > 0 else 0.99


def first_rows(rows: tuple[str, ...] | list[str], count: int = 8) -> str:
    """Return the first rows in words."""
    more = f" and {len(rows) - count:,} more" if len(rows) > count else ""
    return ", ".join(rows[:count]) + more
