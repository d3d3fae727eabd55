"""The parity certificate: what an export said in its own engine, beside what the tuned model says."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Result = Literal["passed", "failed", "not run here"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Share(_Part):
    """So many of so many."""

    count: int
    of: int

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.count == self.of

    @property
    def value(self) -> float:
        """The share; 1 of nothing."""
        return self.count / self.of if self.of else 1.0

    def __str__(self) -> str:
        return f"{self.count} of {self.of}"


class Difference(_Part):
    """The first prompt on which an export parts from its source."""

    check: str
    """What differs: the rendered prompt, its tokens, or the answer."""
    prompt: str
    expected: str
    got: str


class Divergence(_Part):
    """Kullback-Leibler divergence of the export's next-token chances from the tuned model's, in nats per token."""

    mean: float
    worst: float
    positions: int
    """Tokens compared: along the tuned model's own answers, their ends included."""
    base_mean: float | None = None
    """The same for the untuned model: what a wrong or missing adapter would give."""
    is_partial: bool = False
    """The engine tells only its likeliest tokens; the rest counts as one, so the truth is not smaller."""


class Measured(_Part):
    """A metric of the task, on the same questions."""

    metric: str
    source: float
    export: float
    difference: float
    """Export minus source."""
    low: float
    high: float
    """Its 95 % interval, paired by row."""
    rows: int


class Certificate(_Part):
    """What was compared, and whether the export says the same."""

    result: Result
    reasons: tuple[str, ...] = ()
    """Why it did not pass, or was not run; what explains the others comes first."""
    engine: str = ""
    """What the export was run in, with its version."""
    prompts: str = ""
    """Which prompts it was asked."""
    rendered: Share | None = None
    """Prompts that its own template renders to the same bytes."""
    ids: Share | None = None
    """Prompts that its own tokenizer turns into the same tokens."""
    answers: Share | None = None
    """Greedy answers that are the same, byte for byte."""
    source_stops: Share | None = None
    export_stops: Share | None = None
    """Answers that ended by themselves."""
    divergence: Divergence | None = None
    measured: Measured | None = None
    longest_prompt_tokens: int = 0
    longest_works: bool | None = None
    """Whether it answers the longest prompt of the data."""
    max_drop: float | None = Field(None, ge=0)
    """How much worse the metric may be; None where nothing but sameness counts."""
    differs: Difference | None = None
    seconds: float = 0.0
