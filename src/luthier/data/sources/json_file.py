"""JSON: an array of rows, or an object that holds exactly one array; SQuAD's nested file gives a row per question."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from luthier.core.errors import DataError
from luthier.data.rows import RawRow, RowError, RowIssue, Value
from luthier.data.sources.jsonl import row_value
from luthier.data.sources.streams import open_text

MAX_BYTES = 256 << 20
"""A JSON array is held in memory while it is read; JSON Lines is not."""
SPACE = re.compile(r"[ \t\r\n]*")
ELEMENT = json.JSONDecoder()


def read_json(path: Path, name: str) -> Iterator[RawRow | RowIssue]:
    """Yield the elements of the file's array."""
    text = _content(path)
    at = _array_start(text, path)
    if at is None:
        return
    number, at = 0, _skip(text, at + 1)
    while text[at : at + 1] not in ("]", ""):
        number += 1
        try:
            end = _element_end(text, at, path)
            for value in _questions(row_value(text[at:end])):
                yield RawRow(name, number, value)
                number += 1
            number -= 1
        except RowError as error:
            yield error.issue(name, number)
        at = _next(text, end, path)
    if at >= len(text):
        raise _broken(text, at, path, "the array never ends")


def _questions(value: Value) -> list[Value]:
    """Return a row for each question of an article as SQuAD's own files have it, else the value itself."""
    found = value.get("paragraphs") if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("qas"), list) for one in found
    ):
        return [value]
    return [
        {"context": one.get("context"), **question} if isinstance(question, dict) else question
        for one in found
        for question in one["qas"]
    ]


def _content(path: Path) -> str:
    with open_text(path) as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        hint = "save it as JSON Lines (`.jsonl`, one object a line), which is read as a stream"
        raise DataError("a JSON file is too large to read at once", where={"file": path}, why="over 256 MB", hint=hint)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            "this file is not UTF-8 text", where={"file": path, "line": line}, hint="save it as UTF-8"
        ) from error


def _array_start(text: str, path: Path) -> int | None:
    """Return where the rows' array begins: at once, or as the only array of an object."""
    at = _skip(text, 0)
    if at == len(text) or text[at] == "[":
        return at if at < len(text) else None
    if text[at] != "{":
        raise _broken(text, at, path, "a file of rows begins with `[` or `{`")
    starts, at = [], _skip(text, at + 1)
    while text[at : at + 1] == '"':
        colon = _skip(text, _element_end(text, at, path))
        value = _skip(text, colon + 1)
        starts += [value] if text[value : value + 1] == "[" else []
        at = _next(text, _element_end(text, value, path), path)
    if len(starts) == 1 and _skip(text, at + 1) == len(text):
        return starts[0]
    hint = "if each line is an object, name the file `.jsonl`"
    why = (
        f"the object holds {len(starts)} arrays"
        if _skip(text, at + 1) == len(text)
        else "more follows after the first object"
    )
    raise DataError("a JSON file needs one array of rows", where={"file": path}, why=why, hint=hint)


def _skip(text: str, at: int) -> int:
    return SPACE.match(text, at).end()  # type: ignore[union-attr]


def _element_end(text: str, at: int, path: Path) -> int:
    # Only finds the end: the element itself is parsed strictly, so that one bad row is one bad row.
    try:
        return ELEMENT.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        raise _broken(text, error.pos, path, error.msg) from error
    except RecursionError as error:
        raise _broken(text, at, path, "nested too deeply") from error
    except ValueError as error:
        raise _broken(text, at, path, "a number has too many digits") from error


def _next(text: str, at: int, path: Path) -> int:
    at = _skip(text, at)
    if text[at : at + 1] == ",":
        following = _skip(text, at + 1)
        if text[following : following + 1] in ("]", "}"):
            raise _broken(text, at, path, "a comma with nothing after it")
        return following
    if text[at : at + 1] in ("]", "}", ""):
        return at
    raise _broken(text, at, path, "expected a comma or the end")


def _broken(text: str, at: int, path: Path, why: str) -> DataError:
    line = text.count("\n", 0, at) + 1
    return DataError(
        "a file is not JSON", where={"file": path, "line": line}, why=why, hint="repair it, or save it as JSON Lines"
    )
