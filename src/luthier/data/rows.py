"""Rows as sources yield them: read, or with the reason why not."""

from dataclasses import dataclass
from typing import Any

Value = dict[str, Any] | str
"""A row's content: columns by name, or bare text."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a source, not yet of any format."""

    file: str
    row: int
    """As a person counts: the line for JSON Lines, the record otherwise, from 1."""
    value: Value


@dataclass(frozen=True, slots=True)
class RowIssue:
    """A row that is not used as it stands, and why."""

    file: str
    row: int
    code: str
    """The kind of issue, one word for programs: `not_json`, `duplicate`, `too_long`, …"""
    reason: str
    pointer: str = ""
    """JSON pointer to the offending value within the row, where there is one."""

    def __str__(self) -> str:
        """Render as `file:row: reason (at /pointer)`."""
        place = f" (at {self.pointer})" if self.pointer else ""
        return f"{self.file}:{self.row}: {self.reason}{place}"


class RowError(Exception):
    """One row cannot be read; the reader turns it into a RowIssue with the row's number."""

    def __init__(self, reason: str, pointer: str = "", *, code: str = "wrong_shape") -> None:
        super().__init__(reason)
        self.reason = reason
        self.pointer = pointer
        self.code = code

    def issue(self, file: str, row: int) -> RowIssue:
        """Return what is wrong together with where."""
        return RowIssue(file, row, self.code, self.reason, self.pointer)
