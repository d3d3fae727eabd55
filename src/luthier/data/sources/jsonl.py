"""JSON Lines: one object (or one string) a line."""

from collections.abc import Iterator
from pathlib import Path

from luthier.data.rows import RawRow, RowError, RowIssue, Value
from luthier.data.sources.streams import lines, open_text
from luthier.data.sources.strict_json import parse


def read_jsonl(path: Path, name: str) -> Iterator[RawRow | RowIssue]:
    """Yield a row for each line that is not blank."""
    with open_text(path) as stream:
        for number, line in enumerate(lines(stream), 1):
            if line is not None and not line.strip():
                continue
            try:
                yield RawRow(name, number, row_value(text_of(line)))
            except RowError as error:
                yield error.issue(name, number)


def row_value(text: str) -> Value:
    """Parse one row's JSON, which must be an object or a string."""
    value = parse(text)
    if not isinstance(value, dict | str):
        kind = {list: "a list", bool: "true or false", type(None): "null"}.get(type(value), "a number")
        raise RowError(f"the row is {kind}, not an object", code="not_object")
    return value


def text_of(line: bytes | None) -> str:
    """Return a line as text, or raise a RowError where it is none."""
    if line is None:
        raise RowError("the line is longer than 64 MB", code="long_line")
    try:
        return line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        raise RowError(
            f"not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line", code="not_utf8"
        ) from error
