"""A number from a served model."""

import math
from collections.abc import Mapping
from typing import Any

from luthier.score.graders.graded import Found, GradingError, Help
from luthier.score.graders.model_answer import asked
from luthier.score.graders.spec import ScoreModel


def score(spec: ScoreModel, scope: Mapping[str, Any], help: Help) -> Found:
    """Return the number that the model gives, within the range; raises GradingError."""
    low, high = bounds_of(spec)
    reply, result = asked(spec, scope, help, {"type": "number", "minimum": low, "maximum": high})
    try:
        number = float(str(result))
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise GradingError("model_grader_parse_error", f"{str(result)[:100]!r} is no number from {low:g} to {high:g}")
    return Found(number, reply=reply)


def bounds_of(spec: ScoreModel) -> tuple[float, float]:
    """Return the least and the greatest score."""
    return spec.range or (0.0, 1.0)
