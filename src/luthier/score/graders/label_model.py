"""A label from a served model: right or wrong."""

from collections.abc import Mapping
from typing import Any

from luthier.score.graders.graded import Found, GradingError, Help
from luthier.score.graders.model_answer import asked
from luthier.score.graders.spec import LabelModel


def label(spec: LabelModel, scope: Mapping[str, Any], help: Help) -> Found:
    """Return 1 where the model gives a passing label, else 0; raises GradingError where it gives none."""
    reply, result = asked(spec, scope, help, {"type": "string", "enum": spec.labels})
    if result not in spec.labels:
        raise GradingError("model_grader_parse_error", f"{str(result)[:100]!r} is none of the labels")
    return Found(float(result in spec.passing_labels), reply=reply)
