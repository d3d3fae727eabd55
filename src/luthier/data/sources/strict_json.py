"""JSON as the standard means it: what Python's parser lets pass or trips over becomes a RowError."""

import json
import math
import re
from typing import Any

from luthier.data.rows import RowError

MAX_DEPTH = 64
"""Deepest nesting of a row; chat rows with tool schemas stay below 20."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(text: str) -> Any:
    """Return the value of one JSON text, or raise a RowError that says what is wrong with it."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON: {_worded(error.msg)} at column {error.pos + 1}", code="not_json") from error
    except RecursionError as error:
        raise RowError("nested too deeply", code="too_deep") from error
    except ValueError as error:
        # Python refuses to convert integers of more than 4,300 digits.
        raise RowError("a number has too many digits", code="huge_number") from error
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise RowError(f"nested more than {MAX_DEPTH} levels deep", code="too_deep")
    if SURROGATE.search(text):
        _check_unicode(json.dumps(value, ensure_ascii=False))
    return value


def _check_unicode(text: str) -> None:
    """Raise a RowError for half a surrogate pair: no tokenizer can read it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError("a character is half a surrogate pair, not Unicode", code="lone_surrogate") from error


def _worded(message: str) -> str:
    return (message[:1].lower() + message[1:]).removesuffix(" at")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise RowError(f"the key {json.dumps(twice)[:80]} stands twice in one object", code="duplicate_key")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise RowError(f"the number {digits[:20]} is too large", code="not_finite")
    return value


def _constant(name: str) -> float:
    raise RowError(f"{name} is not a JSON value", code="not_finite")


def _depth(value: Any) -> int:
    # With a list as stack: the value may be nested too deeply for recursion.
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, dict | list):
            deepest = max(deepest, depth)
            inner = item.values() if isinstance(item, dict) else item
            waiting += [(part, depth + 1) for part in inner]
    return deepest


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
