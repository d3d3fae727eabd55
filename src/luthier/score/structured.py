"""Structured answers: JSON validity and field-F1."""

import json
from collections.abc import Iterator
from typing import Any

from luthier.core.errors import DataError

Field = tuple[tuple[str | int, ...], bool, object]
"""Path of keys and positions, whether the value is a boolean (Python holds True == 1), and the value."""


def parse_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object (RFC 8259: no NaN, no trailing text) that a text is, or None."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def find_object(text: str) -> dict[str, Any] | None:
    """Return the first JSON object inside a text (after a sentence, in a code fence), or None."""
    decoder = json.JSONDecoder(parse_constant=_refuse)
    for start in (index for index, character in enumerate(text) if character == "{"):
        try:
            return dict(decoder.raw_decode(text, start)[0])
        except (ValueError, RecursionError):
            continue
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def fields(value: object) -> frozenset[Field]:
    """Flatten a JSON value to its leaves with their paths; list items count by position, empty containers as leaves."""
    return frozenset(_fields(value))


def _fields(value: object) -> Iterator[Field]:
    # A stack instead of recursion: depth comes from a model's answer.
    stack: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    while stack:
        path, current = stack.pop()
        if isinstance(current, dict) and current:
            stack += [((*path, key), item) for key, item in current.items()]
        elif isinstance(current, list) and current:
            stack += [((*path, place), item) for place, item in enumerate(current)]
        else:
            leaf = json.dumps(current) if isinstance(current, dict | list) else current
            yield path, isinstance(current, bool | dict | list), leaf


def json_valid(answer: str, _reference: str) -> float:
    """Return 1 where the whole answer is one JSON object, else 0."""
    return float(parse_object(answer) is not None)


def field_f1(answer: str, reference: str) -> float:
    """Return F1 over fields, 0 to 1: a field is right when its path and its value are both in the reference.

    The answer's first JSON object is read even from within other text: `json_valid` is what scores the format.
    An answer without one scores 0. A reference that is no JSON object is an error.
    """
    expected = parse_object(reference)
    if expected is None:
        hint = "leave `field_f1` out of evaluate.metrics, or make every answer a JSON object"
        raise DataError(
            "field-F1 needs references that are JSON objects", where={"reference": reference[:80]}, hint=hint
        )
    found = find_object(answer)
    if found is None:
        return 0.0
    given, wanted = fields(found), fields(expected)
    return 2 * len(given & wanted) / (len(given) + len(wanted))
