"""Sample: one test row with what every system answered, a line of `samples.jsonl`."""

from pydantic import BaseModel, ConfigDict, Field


class SampleAnswer(BaseModel):
    """What one system answered to one test row, and how each metric scored it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    text: str
    """The answer as generated, without the stop token."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Score of this row by metric; the corpus metrics (BLEU, chrF, macro-F1) give their per-row form."""
    stopped: bool = True
    """Whether the answer ended by itself before the token limit."""
    label: str | None = None
    """The label read from the answer; None where it names none, or where answers are open."""


class Sample(BaseModel):
    """One test row: the prompt, the reference, and the answers by system name."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    row: str
    """Where the row comes from: `tones.jsonl:17`."""
    prompt: str
    """The prompt's text as the model saw it."""
    reference: str
    """The right answer."""
    answers: dict[str, SampleAnswer]
    """Answers by the system's name."""
