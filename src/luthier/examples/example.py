"""Example: one row of data in the one shape that training, evaluation and chat share."""

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NO_ANSWER = "no answer"
"""What a model writes where a text does not say what is asked; scored as the empty answer."""
Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str = ""
    weight: Literal[0, 1] = 1
    """1 trains on this assistant turn, 0 leaves it as context; other roles never train."""
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None


class Segment(BaseModel):
    """A piece of raw text, trained on or not, for data that no chat template wraps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    target: bool


class Span(BaseModel):
    """A named piece of a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    """Its first character, counted from 0."""
    end: int
    """The character after its last one."""
    label: str

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if self.end <= self.start:
            raise ValueError("a span ends after it starts")
        return self


class Quote(BaseModel):
    """An answer to a question: a piece of the text that is asked about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    """Its first character in the text, counted from 0."""
    text: str

    @property
    def end(self) -> int:
        """The character after its last one."""
        return self.start + len(self.text)


class Example(BaseModel):
    """Either a conversation (`messages`) or raw text (`segments`); never both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    segments: tuple[Segment, ...] = ()
    label: str | None = None
    """The answer, where the data names it as a label of a closed set."""
    labels: tuple[str, ...] | None = None
    """All labels of a text that may have several or none, sorted; only for a head."""
    score: float | None = None
    """The number that a text has; only for a head."""
    spans: tuple[Span, ...] | None = None
    """The entities of a text, in their order; only for a head."""
    quotes: tuple[Quote, ...] | None = None
    """The accepted answers to a question about a text, the trained one first; none where the text does not say it.
    For a head, the segments are the question and the text."""
    others: tuple[str, ...] | None = None
    """The texts that the text is compared with: a matching one, and one that does not match; only for vectors."""
    rejected: Message | None = None
    """An answer that is liked less than the last message; only in data of preferences."""
    file: str = ""
    row: int = Field(0, ge=0)
    """Row number in `file` as a person counts: the line for JSONL, the record otherwise, from 1."""

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if bool(self.messages) == bool(self.segments):
            raise ValueError("an example has either messages or segments")
        if self.rejected and not self.messages:
            raise ValueError("only a conversation has a rejected answer")
        return self

    @property
    def is_judged(self) -> bool:
        """Whether this is a text with what a head is to say of it, and not an answer to write."""
        known = (self.label, self.labels, self.score, self.spans, self.quotes, self.others)
        untrained = bool(self.segments) and not any(segment.target for segment in self.segments)
        return untrained and any(one is not None for one in known)

    @property
    def is_windowed(self) -> bool:
        """Whether a head reads it in windows where it is long, so that no length is too much."""
        return self.is_judged and self.quotes is not None

    @property
    def text(self) -> str:
        """The raw text, all of it."""
        between = "" if self.quotes is None else "\n\n"
        return between.join(segment.text for segment in self.segments)

    @property
    def accepted(self) -> tuple[str, ...]:
        """All answers that are right, where a question is asked about a text; none where it does not say it."""
        return tuple(dict.fromkeys(quote.text for quote in self.quotes or ()))

    @property
    def passage(self) -> str | None:
        """The text that a question is asked about: the second segment, or what precedes the prompt's last paragraph."""
        if self.quotes is None:
            return None
        return self.segments[1].text if self.segments else self.messages[0].content.rpartition("\n\n")[0]

    @property
    def texts(self) -> tuple[str, ...]:
        """The raw text, and those that it is compared with."""
        return (self.text, *(self.others or ()))

    @property
    def answer(self) -> str:
        """The last trained text, or what a head is to say: what an evaluation compares with."""
        if self.is_judged:
            return self._judgement
        if self.segments:
            return "".join(segment.text for segment in self.segments if segment.target)
        trained = [m.content for m in self.messages if m.role == "assistant" and m.weight]
        return trained[-1] if trained else ""

    @property
    def with_rejected(self) -> "Example | None":
        """The conversation with the rejected answer as its last message, or None where there is none."""
        if self.rejected is None:
            return None
        return self.model_copy(update={"messages": (*self.messages[:-1], self.rejected), "rejected": None})

    @property
    def _judgement(self) -> str:
        if self.others is not None:
            return self.others[0] if self.score is None else f"{self.score:g}"
        if self.labels is not None:
            return ", ".join(self.labels)
        if self.quotes is not None:
            return self.quotes[0].text if self.quotes else ""
        if self.spans is not None:
            return json.dumps(
                [f"{one.label}: {self.text[one.start : one.end]}" for one in self.spans], ensure_ascii=False
            )
        return self.label if self.label is not None else f"{self.score:g}"

    @property
    def context(self) -> "Example | None":
        """The example up to its last trained turn, or None where nothing precedes it or nothing is trained."""
        if self.is_judged:
            return Example(segments=self.segments, file=self.file, row=self.row)
        if self.segments:
            before = self.segments[: next((i for i, s in enumerate(self.segments) if s.target), 0)]
            return self.model_copy(update={"segments": before}) if before else None
        last = max((i for i, m in enumerate(self.messages) if m.role == "assistant" and m.weight), default=0)
        return self.model_copy(update={"messages": self.messages[:last], "rejected": None}) if last else None
