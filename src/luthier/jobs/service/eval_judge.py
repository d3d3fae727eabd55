"""One row of an eval's run: answered where a model is asked, then judged by every criterion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.errors import LuthierError
from luthier.jobs.service.asking import MOST_TOKENS
from luthier.jobs.service.eval_records import ItemStatus
from luthier.jobs.service.eval_shapes import DataSource, InputMessages, ItemReference, Json, JsonlSource, Row
from luthier.jobs.service.grading import Grading, House
from luthier.score.graders.grade import grade, sample_of
from luthier.score.graders.graded import Graded, GradingError, Question, Reply
from luthier.score.graders.score_model import bounds_of
from luthier.score.graders.spec import (
    AnyCriterion,
    LabelModel,
    PythonCriterion,
    ScoreCriterion,
    SimilarityCriterion,
    StringCheck,
)
from luthier.score.graders.template import filled, look_up

NO_ERROR = {"code": "", "message": ""}
"""The official client wants an error object also where there is none."""
ROLES = ("user", "assistant", "system", "developer")


@dataclass(frozen=True)
class Verdict:
    """What came of one row."""

    status: ItemStatus
    data: Json
    """As OpenAI writes it: `datasource_item`, `results`, `sample`."""
    met: tuple[bool | None, ...]
    """Of each criterion; None where it could not be judged."""
    replies: tuple[Reply, ...]
    """All that models said."""


@dataclass(frozen=True)
class Judge:
    """Answers and judges the rows of one run."""

    grading: Grading
    source: DataSource
    criteria: Sequence[AnyCriterion]
    owner: str

    def verdict(self, row: Row, place: int) -> Verdict:
        """Return what comes of a row; what goes wrong with it is told in it. Raises IsolationError without walls."""
        house = House(self.grading, self.owner, is_patient=True)
        try:
            sample, told = self._answered(row, house)
        except LuthierError as error:
            return self._unanswered(row, place, error, house)
        results, met = [], []
        for criterion in self.criteria:
            graded = grade(criterion, sample, row.item, house)
            passed = None if graded.metadata.errors.any else graded.reward >= threshold_of(criterion)
            met.append(passed)
            results.append(_result(criterion, graded, bool(passed)))
        status: ItemStatus = "error" if None in met else "pass" if all(met) else "fail"
        data = {"datasource_item": row.item, "datasource_item_id": place, "results": results, "sample": told}
        return Verdict(status, data, tuple(met), tuple(house.replies))

    def _unanswered(self, row: Row, place: int, error: LuthierError, house: House) -> Verdict:
        code = getattr(error, "error_code", None) or getattr(error, "flag", None) or error.code
        told = _told(self._model, {}, None, asked=())
        sample = told | {"error": {"code": code, "message": error.what}, "finish_reason": "error"}
        data = {"datasource_item": row.item, "datasource_item_id": place, "results": [], "sample": sample}
        return Verdict("error", data, tuple(None for _ in self.criteria), tuple(house.replies))

    @property
    def _model(self) -> str:
        return "" if isinstance(self.source, JsonlSource) else self.source.model or ""

    def _answered(self, row: Row, house: House) -> tuple[Json, Json]:
        """Return what graders call `sample`, and how OpenAI tells of it."""
        if isinstance(self.source, JsonlSource) or not self.source.model or not self.source.input_messages:
            return _at_hand(row)
        messages = messages_for(self.source.input_messages, row.item)
        options = self.source.sampling_params.options() if self.source.sampling_params else {}
        reply = house.ask(Question(self.source.model, messages, options))
        sample = sample_of(reply.text, message=reply.message, finish_reason=reply.finish_reason)
        return sample, _told(reply.model, options, reply, asked=messages)


def threshold_of(criterion: AnyCriterion) -> float:
    """Return the least score that passes; where none is given, the middle of what can be scored."""
    match criterion:
        case SimilarityCriterion():
            return criterion.pass_threshold
        case PythonCriterion():
            return 0.5 if criterion.pass_threshold is None else criterion.pass_threshold
        case ScoreCriterion():
            return sum(bounds_of(criterion)) / 2 if criterion.pass_threshold is None else criterion.pass_threshold
        case StringCheck() | LabelModel():
            return 1.0


def messages_for(wanted: InputMessages, item: Json) -> list[Json]:
    """Return the messages for a row; raises GradingError where it lacks what they name."""
    scope = {"item": item, "sample": {}}
    if not isinstance(wanted, ItemReference):
        return [{"role": message.role, "content": filled(message.text, scope)} for message in wanted.template]
    path = wanted.item_reference.removeprefix("{{").removesuffix("}}").strip()
    found = look_up(path, scope)
    if not isinstance(found, list) or not all(_is_message(message) for message in found):
        raise GradingError("invalid_variable_error", f"{path} is no list of messages")
    return [{"role": message["role"], "content": message["content"]} for message in found]


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and value.get("role") in ROLES and isinstance(value.get("content"), str)


def _at_hand(row: Row) -> tuple[Json, Json]:
    """Return the answer that a row holds, with all that `sample` names where it is a text."""
    given = row.sample or {}
    text = given.get("output_text")
    sample = sample_of(text) | given if isinstance(text, str) else given
    return sample, _told("", {}, Reply(text, "") if isinstance(text, str) else None, asked=())


def _told(model: str, options: Json, reply: Reply | None, *, asked: Sequence[Json]) -> Json:
    """Return an answer as an output item shows it; the official client wants every field."""
    usage = {
        "prompt_tokens": reply.prompt_tokens if reply else 0,
        "completion_tokens": reply.completion_tokens if reply else 0,
        "cached_tokens": reply.cached_tokens if reply else 0,
    }
    output: dict[str, Any] = {"role": "assistant", "content": reply.text if reply else None}
    return {
        "input": list(asked),
        "output": [output | dict(reply.message or {})] if reply else [],
        "finish_reason": reply.finish_reason if reply else "",
        "model": model,
        "usage": usage | {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]},
        "error": NO_ERROR,
        "temperature": options.get("temperature", 1.0),
        "max_completion_tokens": options.get("max_completion_tokens", MOST_TOKENS),
        "top_p": options.get("top_p", 1.0),
        "seed": options.get("seed", 0),
    }


def _result(criterion: AnyCriterion, graded: Graded, passed: bool) -> Json:
    return {
        "type": criterion.type.replace("_", "-") + "-grader",
        "name": criterion.name,
        "score": graded.reward,
        "passed": passed,
        "metadata": graded.metadata.model_dump(),
    }
