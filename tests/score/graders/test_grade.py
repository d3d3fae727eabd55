"""From a grader and an answer to a reward, with what went wrong told in the documented words."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from luthier.core.errors import ModelError
from luthier.score.graders.grade import check, grade, sample_of
from luthier.score.graders.graded import Graded, GradingError, Question, Reply
from luthier.score.graders.sandbox import Verdict
from luthier.score.graders.spec import AnyGrader, Grader
from luthier.score.graders.text_similarity import LONGEST

GRADERS: TypeAdapter[AnyGrader] = TypeAdapter(Grader)
EQUAL = {
    "type": "string_check",
    "name": "equal",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.want }}",
    "operation": "eq",
}
NEAR = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.want }}",
    "evaluation_metric": "rouge_1",
}
ASKED = [
    {"role": "developer", "content": "Grade."},
    {"role": "user", "content": [{"type": "input_text", "text": "{{ sample.output_text }}"}]},
]
SCORE = {
    "type": "score_model",
    "name": "score",
    "model": "judge",
    "input": ASKED,
    "range": [0, 10],
    "sampling_params": {"seed": 3},
}
LABEL = {
    "type": "label_model",
    "name": "label",
    "model": "judge",
    "input": ASKED,
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
CODE = {"type": "python", "name": "code", "source": "def grade(sample, item): return 1"}


class House:
    """What graders need, as fakes."""

    def __init__(self, says: str | Exception = "", verdict: Verdict | None = None) -> None:
        self.says, self.verdict = says, verdict
        self.asked: list[Question] = []

    def ask(self, question: Question) -> Reply:
        self.asked.append(question)
        if isinstance(self.says, Exception):
            raise self.says
        return Reply(self.says, "really-judge", prompt_tokens=20, completion_tokens=5)

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if isinstance(self.says, Exception):
            raise self.says
        return [[1.0, float(len(text))] for text in texts]

    def run(self, source: str, sample: Mapping[str, Any], item: Mapping[str, Any]) -> Verdict:
        assert self.verdict is not None
        return self.verdict


def graded(
    grader: dict[str, Any], text: str = "yes", item: dict[str, Any] | None = None, house: House | None = None
) -> Graded:
    return grade(GRADERS.validate_python(grader), sample_of(text), item or {"want": "yes"}, house or House())


def wrong(result: Graded) -> set[str]:
    return {name for name, value in result.metadata.errors if value}


@pytest.mark.parametrize(
    ("operation", "text", "want", "reward"),
    [
        ("eq", "yes", "yes", 1),
        ("eq", "Yes", "yes", 0),
        ("ne", "Yes", "yes", 1),
        ("ne", "yes", "yes", 0),
        ("like", "oh yes!", "yes", 1),
        ("like", "oh Yes!", "yes", 0),
        ("ilike", "oh YES!", "yes", 1),
        ("ilike", "no", "yes", 0),
    ],
)
def test_string_check(operation: str, text: str, want: str, reward: float) -> None:
    result = graded(EQUAL | {"operation": operation}, text, {"want": want})
    assert (result.reward, wrong(result), result.metadata.scores) == (reward, set(), {"equal": reward})


def test_text_similarity() -> None:
    assert graded(NEAR, "yes no").reward == pytest.approx(2 / 3)
    assert graded(NEAR | {"evaluation_metric": "cosine"}).reward == pytest.approx(1)


def test_a_long_text_is_cut_and_said_to_be() -> None:
    result = graded(NEAR, "yes " * LONGEST)
    assert wrong(result) == {"truncated_observation_error"} and result.reward > 0


def test_unknown_variables_are_told() -> None:
    result = graded(EQUAL | {"reference": "{{ item.gone }}"})
    assert (result.reward, wrong(result)) == (0, {"invalid_variable_error"})


def test_an_answer_that_should_be_json_is_told() -> None:
    assert wrong(graded(EQUAL | {"input": "{{ sample.output_json.x }}"}, "no")) == {"sample_parse_error"}


@pytest.mark.parametrize("says", ['{"result": 7.5}', "7.5", " 7.5\n"])
def test_score_model(says: str) -> None:
    house = House(says)
    result = graded(SCORE, house=house)
    assert (result.reward, result.metadata.token_usage, result.metadata.sampled_model_name) == (7.5, 25, "really-judge")
    assert result.model_grader_token_usage_per_model == {"really-judge": 25}
    (question,) = house.asked
    assert question.messages == [{"role": "developer", "content": "Grade."}, {"role": "user", "content": "yes"}]
    schema = question.sampling["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"] == {"type": "number", "minimum": 0.0, "maximum": 10.0}
    assert (question.model, question.sampling["seed"], question.sampling["temperature"]) == ("judge", 3, 0.0)


@pytest.mark.parametrize(
    "says", ['{"result": 11}', '{"result": "high"}', "seven", "NaN", "[]", '{"score": 1}', "[" * 9999]
)
def test_no_score_is_told(says: str) -> None:
    assert wrong(graded(SCORE, house=House(says))) == {"model_grader_parse_error"}


def test_a_model_that_says_nothing_refuses() -> None:
    assert wrong(graded(SCORE, house=House(" "))) == {"model_grader_refusal_error"}


def test_a_model_that_fails_is_told() -> None:
    result = graded(SCORE, house=House(ModelError("it is gone")))
    assert result.metadata.errors.model_grader_server_error_details == "it is gone"
    assert "model_grader_server_error" in wrong(result)


def test_embeddings_that_fail_are_told() -> None:
    result = graded(NEAR | {"evaluation_metric": "cosine"}, house=House(ModelError("it is gone")))
    assert result.metadata.errors.model_grader_server_error_details == "it is gone"


@pytest.mark.parametrize(("says", "reward"), [('{"result": "good"}', 1), ("good", 1), ('{"result": "bad"}', 0)])
def test_label_model(says: str, reward: float) -> None:
    house = House(says)
    assert graded(LABEL, house=house).reward == reward
    schema = house.asked[0].sampling["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"] == {"type": "string", "enum": ["good", "bad"]}


@pytest.mark.parametrize("says", ["so-so", "[1]", '{"result": ["good"]}'])
def test_another_label_is_told(says: str) -> None:
    assert wrong(graded(LABEL, house=House(says))) == {"model_grader_parse_error"}


def test_python() -> None:
    assert graded(CODE, house=House(verdict=Verdict(score=0.5))).reward == 0.5
    failed = graded(CODE, house=House(verdict=Verdict(error="ValueError: x"))).metadata.errors
    assert (failed.python_grader_runtime_error, failed.python_grader_runtime_error_details) == (True, "ValueError: x")
    tagged = CODE | {"image_tag": "2025-05-08"}
    missing = graded(tagged, house=House(verdict=Verdict(error="ModuleNotFoundError: rdkit\n"))).metadata.errors
    assert "The image 2025-05-08 is not here" in (missing.python_grader_runtime_error_details or "")
    stopped = graded(CODE, house=House(verdict=Verdict(stopped="timeout"))).metadata.errors
    assert (stopped.python_grader_server_error, stopped.python_grader_server_error_type) == (True, "timeout")


def multi(formula: str, **graders: dict[str, Any]) -> dict[str, Any]:
    return {"type": "multi", "name": "all", "graders": graders, "calculate_output": formula}


def test_multi() -> None:
    result = graded(
        multi("0.5 * same + close ^ 2 + judged / 10", same=EQUAL, close=NEAR, judged=SCORE), house=House("5")
    )
    assert result.reward == pytest.approx(2.0)
    assert result.sub_rewards == result.metadata.scores == {"same": 1.0, "close": 1.0, "judged": 5.0}
    assert (result.metadata.token_usage, result.metadata.type) == (25, "multi")


def test_multi_with_one_grader_as_the_client_types_it() -> None:
    one = {"type": "multi", "name": "all", "graders": EQUAL, "calculate_output": "1 - equal"}
    assert graded(one).reward == 0.0 and graded(one, "no").reward == 1.0


def test_multi_tells_what_went_wrong_within() -> None:
    result = graded(multi("a + b", a=EQUAL, b=NEAR | {"reference": "{{ item.gone }}"}))
    assert (result.reward, wrong(result)) == (0.0, {"invalid_variable_error"})


@pytest.mark.parametrize(
    ("formula", "flag"), [("a +", "formula_parse_error"), ("b", "formula_parse_error"), ("1/(a-1)", "other_error")]
)
def test_multi_tells_a_wrong_formula(formula: str, flag: str) -> None:
    result = graded(multi(formula, a=EQUAL))
    assert (result.reward, wrong(result)) == (0.0, {flag})


@pytest.mark.parametrize(
    "grader",
    [
        {},
        {"type": "regex", "name": "x"},
        EQUAL | {"operation": "matches"},
        {name: value for name, value in EQUAL.items() if name != "reference"},
        EQUAL | {"extra": 1},
        EQUAL | {"name": ""},
        NEAR | {"evaluation_metric": "rouge_6"},
        CODE | {"source": "#" * (256 * 1024 + 1)},
        CODE | {"source": "#" + "é" * (128 * 1024)},
        SCORE | {"range": [1, 0]},
        SCORE | {"range": [0]},
        SCORE | {"range": [0, float("inf")]},
        SCORE | {"input": []},
        SCORE | {"input": [{"role": "tool", "content": "x"}]},
        SCORE | {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}]},
        LABEL | {"passing_labels": ["fine"]},
        LABEL | {"labels": []},
        multi("1"),
        multi("a", a=multi("b", b=EQUAL)),
    ],
)
def test_what_is_no_grader_is_refused(grader: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GRADERS.validate_python(grader)


@pytest.mark.parametrize(
    ("grader", "flag"),
    [
        (EQUAL | {"input": "{{ item.x | upper }}"}, "invalid_variable_error"),
        (SCORE | {"input": [{"role": "user", "content": "{{ name }}"}]}, "invalid_variable_error"),
        (multi("a * gone", a=EQUAL), "formula_parse_error"),
        (multi("a", a=EQUAL | {"input": "{{ x }}"}), "invalid_variable_error"),
    ],
)
def test_checking_finds_it_before_it_runs(grader: dict[str, Any], flag: str) -> None:
    with pytest.raises(GradingError) as refused:
        check(GRADERS.validate_python(grader))
    assert refused.value.flag == flag


def test_checking_lets_good_graders_pass() -> None:
    passed = [check(GRADERS.validate_python(one)) for one in (EQUAL, NEAR, SCORE, LABEL, CODE, multi("a", a=EQUAL))]
    assert passed == [None] * 6
