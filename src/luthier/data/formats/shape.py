"""What all formats share: the sample they are recognised by, and reading single columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from luthier.data.rows import RowError, Value
from luthier.examples.example import Example, Message, Segment, Span


@dataclass(frozen=True)
class Sample:
    """The first rows of the data."""

    rows: tuple[Value, ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many rows have each column, in the order of appearance."""
        counts: dict[str, int] = {}
        for row in self.rows:
            for column in row if isinstance(row, dict) else ():
                counts[column] = counts.get(column, 0) + 1
        return counts

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that any row has."""
        return tuple(self.counts)

    def has(self, *columns: str, kind: type = object) -> bool:
        """Return whether at least half of the rows have all of these columns, with such values."""
        fitting = sum(
            isinstance(row, dict) and all(isinstance(row.get(column), kind) and column in row for column in columns)
            for row in self.rows
        )
        return bool(self.rows) and 2 * fitting >= len(self.rows)

    def values(self, column: str) -> list[Any]:
        """Return a column's values in the rows that have it."""
        return [row[column] for row in self.rows if isinstance(row, dict) and column in row]


def text_in(row: Value, column: str, *, empty: bool = False) -> str:
    """Return the text of one column, or raise a RowError that points at it."""
    value = columns_of(row).get(column)
    if value is None:
        raise RowError(f"no `{column}`", f"/{column}", code="missing_column")
    if not isinstance(value, str):
        raise RowError(f"`{column}` is not text", f"/{column}")
    if not empty and not value.strip():
        raise RowError(f"`{column}` is empty", f"/{column}", code="empty")
    return value


def columns_of(row: Value) -> dict[str, Any]:
    """Return the row's columns, or raise a RowError for bare text."""
    if isinstance(row, str):
        raise RowError("the row is bare text, without columns")
    return row


def list_in(row: Value, column: str) -> Sequence[dict[str, Any]]:
    """Return the objects listed in one column, or raise a RowError that points at what is not one."""
    value = columns_of(row).get(column)
    if value is None:
        raise RowError(f"no `{column}`", f"/{column}", code="missing_column")
    if not isinstance(value, list):
        raise RowError(f"`{column}` is not a list", f"/{column}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise RowError("not an object", f"/{column}/{index}")
    return value


def question_answer(question: str, answer: str, *, label: str | None = None) -> Example:
    """Return the one-turn conversation."""
    user, assistant = Message(role="user", content=question), Message(role="assistant", content=answer)
    return Example(messages=(user, assistant), label=label)


def judged(
    text: str,
    *,
    label: str | None = None,
    labels: tuple[str, ...] | None = None,
    score: float | None = None,
    spans: tuple[Span, ...] | None = None,
) -> Example:
    """Return the raw text with what a head is to say of it."""
    if not text.strip():
        raise RowError("the text is empty", code="empty")
    return Example(segments=(Segment(text=text, target=False),), label=label, labels=labels, score=score, spans=spans)


def compared(text: str, *others: str, score: float | None = None) -> Example:
    """Return the raw text with those that its vector is compared with, and how alike the two are."""
    return Example(segments=(Segment(text=text, target=False),), others=others, score=score)
