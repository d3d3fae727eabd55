"""What a recipe says about data."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from luthier.core.spec import Auto, Spec


class SplitSpec(Spec):
    """How rows are shared out; near-duplicates always land on one side."""

    validation: float = Field(0.1, ge=0, lt=1)
    """Share of rows held out to watch training."""
    test: float = Field(0.1, ge=0, lt=1)
    """Share of rows held out to measure the result; training never sees them."""

    @model_validator(mode="after")
    def _leaves_rows(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


class DataSpec(Spec):
    """Where the rows are and what shape they have."""

    path: str | tuple[str, ...]
    """A file, some of its rows (`rows.jsonl[:4096]`), several files, or a hub data set (`org/name:train[:4096]`)."""
    format: str = "auto"
    """Shape of the rows; `auto` recognises it."""
    text_template: str | None = None
    """For columns of any name: text with `{column}` fields; loss falls on the last field and what follows it."""
    render: Literal["auto", "chat", "text", "source"] = "auto"
    """How a model gets rows: turns of a chat, raw text for a head, or source and target; `auto` asks the method."""
    instruction: str | None = None
    """For labelled text: the instruction before each text; a plain one that lists the labels is used when absent."""
    validation_path: str | tuple[str, ...] | None = None
    """Rows of its own for validation; then `split.validation` is not cut from `path`."""
    test_path: str | tuple[str, ...] | None = None
    """Rows of its own for the test; then `split.test` is not cut from `path`."""
    split: SplitSpec = SplitSpec()
    """Shares held out of `path`."""
    max_tokens: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Longest row in tokens; `auto` takes the longest row up to the model's context length."""
    too_long: Literal["drop", "cut"] = "drop"
    """What happens to longer rows: left out, or cut at the end (a cut answer teaches not to stop)."""
    near_duplicates: float = Field(0.9, gt=0, le=1)
    """Similarity from which two rows count as near-duplicates and stay in one split (1: equal text only)."""
    unreadable_rows: Literal["stop", "skip"] = "stop"
    """Whether a row that cannot be read stops the run, or is left out and listed in the card."""
    repeats: Literal["drop", "keep"] = "drop"
    """Whether a row that says the same as another, or nearly what one of a held-out file says, is left out or kept."""
