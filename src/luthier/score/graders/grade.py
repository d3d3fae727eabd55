"""From a grader, an answer and a row to a reward."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.core.errors import LuthierError
from luthier.score.graders import label_model, python_code, score_model, string_check, text_similarity
from luthier.score.graders.formula import formula_of
from luthier.score.graders.graded import Found, Graded, GradeErrors, GradeMetadata, GradingError, Help, Reply
from luthier.score.graders.spec import (
    AnyGrader,
    LabelModel,
    Multi,
    Plain,
    PythonCode,
    ScoreModel,
    StringCheck,
    TextSimilarity,
)
from luthier.score.graders.template import filled, variables_of

DETAILED = {
    "python_grader_runtime_error": "python_grader_runtime_error_details",
    "python_grader_server_error": "python_grader_server_error_type",
    "model_grader_server_error": "model_grader_server_error_details",
}


def sample_of(text: str, *, message: Mapping[str, Any] | None = None, finish_reason: str = "stop") -> dict[str, Any]:
    """Return what `sample` holds for an answer; `output_json` is there where the answer is JSON."""
    said = {"role": "assistant", "content": text} | dict(message or {})
    choice = {"index": 0, "message": said, "finish_reason": finish_reason}
    return {
        "output_text": text,
        "output_json": _json_or_none(text),
        "output_tools": list(said.get("tool_calls") or []),
        "choices": [choice],
    }


def _json_or_none(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def grade(spec: AnyGrader, sample: Mapping[str, Any], item: Mapping[str, Any], help: Help) -> Graded:
    """Return the reward of an answer; what goes wrong is told in it. Raises IsolationError where walls are missing."""
    scope = {"sample": sample, "item": item}
    return _combined(spec, scope, help) if isinstance(spec, Multi) else _plain(spec, scope, help)


def _plain(spec: Plain, scope: Mapping[str, Any], help: Help) -> Graded:
    begin = time.perf_counter()
    try:
        found, errors = _found(spec, scope, help), GradeErrors()
    except GradingError as error:
        found, errors = Found(0.0), _errors_of(error)
    if found.is_cut:
        errors |= GradeErrors(truncated_observation_error=True)
    tokens = _tokens(found.reply)
    metadata = GradeMetadata(
        name=spec.name,
        type=spec.type,
        errors=errors,
        execution_time=time.perf_counter() - begin,
        scores={spec.name: found.score},
        token_usage=sum(tokens.values()) if tokens else None,
        sampled_model_name=found.reply.model if found.reply else None,
    )
    return Graded(reward=found.score, metadata=metadata, sub_rewards={}, model_grader_token_usage_per_model=tokens)


def _found(spec: Plain, scope: Mapping[str, Any], help: Help) -> Found:
    match spec:
        case StringCheck():
            return Found(string_check.check(spec, filled(spec.input, scope), filled(spec.reference, scope)))
        case TextSimilarity():
            texts = filled(spec.input, scope), filled(spec.reference, scope)
            is_cut = max(map(len, texts)) > text_similarity.LONGEST
            return Found(_similarity(spec, texts, help), is_cut=is_cut)
        case PythonCode():
            return python_code.run(spec, scope, help)
        case ScoreModel():
            return score_model.score(spec, scope, help)
        case LabelModel():
            return label_model.label(spec, scope, help)


def _similarity(spec: TextSimilarity, texts: tuple[str, str], help: Help) -> float:
    try:
        return text_similarity.similarity(spec.evaluation_metric, *texts, help.embed)
    except LuthierError as error:
        raise GradingError("model_grader_server_error", error.what, details=error.what) from error


def _errors_of(error: GradingError) -> GradeErrors:
    told = {error.flag: True}
    return GradeErrors(**told, **({DETAILED[error.flag]: error.details} if error.flag in DETAILED else {}))


def _tokens(reply: Reply | None) -> dict[str, int]:
    return {reply.model: reply.prompt_tokens + reply.completion_tokens} if reply else {}


def _combined(spec: Multi, scope: Mapping[str, Any], help: Help) -> Graded:
    begin = time.perf_counter()
    try:
        reckon = formula_of(spec.calculate_output, set(parts_of(spec)))
        parts = {name: _plain(part, scope, help) for name, part in parts_of(spec).items()}
        errors = _together([part.metadata.errors for part in parts.values()])
        reward = 0.0 if errors.any else reckon({name: part.reward for name, part in parts.items()})
    except GradingError as error:
        parts, reward, errors = {}, 0.0, _errors_of(error)
    tokens: dict[str, int] = {}
    for part in parts.values():
        for model, used in part.model_grader_token_usage_per_model.items():
            tokens[model] = tokens.get(model, 0) + used
    rewards = {name: part.reward for name, part in parts.items()}
    models = {part.metadata.sampled_model_name for part in parts.values()} - {None}
    metadata = GradeMetadata(
        name=spec.name,
        type=spec.type,
        errors=errors,
        execution_time=time.perf_counter() - begin,
        scores=rewards,
        token_usage=sum(tokens.values()) if tokens else None,
        sampled_model_name=", ".join(sorted(models)) or None,
    )
    return Graded(reward=reward, metadata=metadata, sub_rewards=rewards, model_grader_token_usage_per_model=tokens)


def parts_of(spec: AnyGrader) -> dict[str, Plain]:
    """Return the graders that a multi grader combines, by name; any other is its own only part."""
    if not isinstance(spec, Multi):
        return {spec.name: spec}
    return spec.graders if isinstance(spec.graders, dict) else {spec.graders.name: spec.graders}


def _together(errors: Sequence[GradeErrors]) -> GradeErrors:
    merged = GradeErrors()
    for one in errors:
        merged |= one
    return merged


def check(spec: AnyGrader) -> None:
    """Raise GradingError where a grader names variables that cannot be, or its formula cannot be read."""
    if isinstance(spec, Multi):
        formula_of(spec.calculate_output, set(parts_of(spec)))
    for part in parts_of(spec).values():
        for text in texts_of(part):
            variables_of(text)


def texts_of(spec: Plain) -> list[str]:
    """Return a grader's texts that may name variables."""
    match spec:
        case StringCheck() | TextSimilarity():
            return [spec.input, spec.reference]
        case ScoreModel() | LabelModel():
            return [message.text for message in spec.input]
        case PythonCode():
            return []
