"""`{{ item.x }}`: variables put into a grader's texts, and nothing else that a template language could do."""

import json
import re
from collections.abc import Mapping
from typing import Any

from luthier.score.graders.graded import GradingError

HOLE = re.compile(r"\{\{([^{}]{0,500})\}\}")
LONGEST = 4_000_000
"""Characters of a text with its variables put in: one text may name a long row many times."""
STEP = re.compile(r"\.?([^\W\d]\w*)|\.(\d+)|\[(\d+)\]|\[(?:\"([^\"]*)\"|'([^']*)')\]")
"""`.name`, `.0`, `[0]`, `["any name"]`."""
NAMESPACES = ("item", "sample")


def filled(text: str, scope: Mapping[str, Any]) -> str:
    """Return the text with each variable's value: texts as they are, everything else as JSON.

    Raises GradingError (`invalid_variable_error`, or `sample_parse_error` where the answer is no JSON).
    """
    pieces, place, size = [], 0, len(text)
    for hole in HOLE.finditer(text):
        value = as_text(look_up(hole[1].strip(), scope))
        pieces += [text[place : hole.start()], value]
        place, size = hole.end(), size + len(value)
        if size > LONGEST:
            raise GradingError("other_error", f"with its variables the text is longer than {LONGEST} characters")
    return "".join([*pieces, text[place:]])


def look_up(path: str, scope: Mapping[str, Any]) -> Any:
    """Return the value at a path such as `item.answers[0].text`; raises GradingError."""
    value: Any = scope
    for step in steps_of(path):
        if value is scope.get("sample") and step == "output_json" and value.get(step) is None:
            raise GradingError("sample_parse_error", f"the sample is not JSON, and {path} is asked for")
        try:
            value = value[str(step)] if isinstance(value, Mapping) else _element(value, step)
        except (KeyError, IndexError) as error:
            raise GradingError("invalid_variable_error", f"there is no variable {path}") from error
    return value


def _element(value: object, step: str | int) -> Any:
    if isinstance(value, list) and isinstance(step, int):
        return value[step]
    raise KeyError(step)


def steps_of(path: str) -> list[str | int]:
    """Return a path's steps, which begin with `item` or `sample`; raises GradingError."""
    steps: list[str | int] = []
    place = 0
    while place < len(path) and (found := STEP.match(path, place)):
        name, *numbers, double, single = found.groups()
        number = numbers[0] or numbers[1]
        steps.append(int(number) if number else next(part for part in (name, double, single) if part is not None))
        place = found.end()
    if place < len(path) or not steps or steps[0] not in NAMESPACES or path.startswith((".", "[")):
        raise GradingError("invalid_variable_error", f"{path[:100]!r} names no variable of item or sample")
    return steps


def as_text(value: object) -> str:
    """Return a value as it stands in a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def variables_of(text: str) -> list[list[str | int]]:
    """Return the paths that a text names; raises GradingError where one is none."""
    return [steps_of(hole.strip()) for hole in HOLE.findall(text)]
