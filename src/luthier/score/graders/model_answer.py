"""Asking a model that grades, and reading what it says: a JSON object with one field, `result`."""

import json
from collections.abc import Mapping
from typing import Any

from luthier.core.errors import LuthierError
from luthier.score.graders.graded import GradingError, Help, Question, Reply
from luthier.score.graders.spec import GradingParams, LabelModel, ScoreModel
from luthier.score.graders.template import filled


def asked(
    spec: ScoreModel | LabelModel, scope: Mapping[str, Any], help: Help, result: dict[str, Any]
) -> tuple[Reply, object]:
    """Return the model's reply and its result, which the given JSON schema describes; raises GradingError."""
    messages = [{"role": message.role, "content": filled(message.text, scope)} for message in spec.input]
    params = spec.sampling_params if isinstance(spec, ScoreModel) else None
    try:
        reply = help.ask(Question(spec.model, messages, _sampling(params or GradingParams(), result)))
    except LuthierError as error:
        raise GradingError("model_grader_server_error", error.what, details=error.what) from error
    if not reply.text.strip():
        raise GradingError("model_grader_refusal_error", f"{spec.model} said nothing")
    return reply, _result_of(reply.text)


def _sampling(params: GradingParams, result: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"result": result}, "required": ["result"], "additionalProperties": False}
    wanted = {
        "temperature": params.temperature or 0.0,
        "top_p": params.top_p,
        "seed": params.seed,
        "max_completion_tokens": params.max_completions_tokens,
        "reasoning_effort": params.reasoning_effort,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "result", "strict": True, "schema": schema},
        },
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _result_of(text: str) -> object:
    """Return the result of the object; a model that says only the result itself is understood, too."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    return told.get("result") if isinstance(told, dict) else told
