"""Graders through the official client, which checks every field of the replies."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from tests.api.graded import CODE, EQUAL, LABEL, NEAR, SCORE, Graded, graded_in

from luthier.score.graders.sandbox import IsolationError

SIMILAR = {name: value for name, value in NEAR.items() if name != "pass_threshold"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graded]:
    with graded_in(tmp_path_factory.mktemp("graders")) as house:
        yield house


def run(house: Graded, grader: dict[str, Any], text: str = "yes", item: object = None):
    graders = house.client().fine_tuning.alpha.graders
    return graders.run(grader=grader, model_sample=text, item=item or {"want": "yes"})


def refused(house: Graded, grader: dict[str, Any], *, call: str = "validate") -> openai.APIStatusError:
    graders = house.client().fine_tuning.alpha.graders
    with pytest.raises(openai.APIStatusError) as error:
        if call == "validate":
            graders.validate(grader=grader)
        else:
            graders.run(grader=grader, model_sample="x")
    return error.value


@pytest.mark.parametrize("grader", [EQUAL, SIMILAR, CODE, SCORE], ids=lambda grader: grader["type"])
def test_a_good_grader_comes_back_as_it_was(house: Graded, grader: dict[str, Any]) -> None:
    reply = house.client().fine_tuning.alpha.graders.validate(grader=grader)
    assert reply.to_dict() == {"grader": grader}


@pytest.mark.parametrize(
    ("grader", "reward"),
    [(EQUAL, 1.0), (SIMILAR, 1.0), (CODE, 1.0), (SCORE, 0.75), (LABEL, 1.0)],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_each_grader_grades(house: Graded, grader: dict[str, Any], reward: float) -> None:
    reply = run(house, grader)
    assert (reply.reward, reply.metadata.type, reply.metadata.name) == (reward, grader["type"], grader["name"])
    assert not [name for name, value in reply.metadata.errors if value]
    assert reply.metadata.execution_time > 0


def test_a_model_that_grades_is_named_with_its_tokens(house: Graded) -> None:
    reply = run(house, SCORE | {"model": "gpt-4o-mini-2024-07-18"})
    assert reply.metadata.sampled_model_name == "tiny"
    assert reply.api_model_grader_token_usage_per_model == {"tiny": reply.metadata.token_usage}


def test_cosine_is_by_the_base_on_offer(house: Graded) -> None:
    assert run(house, SIMILAR | {"evaluation_metric": "cosine"}).reward == pytest.approx(1.0)


def test_multi_by_names_and_as_the_client_types_it(house: Graded) -> None:
    many = {"type": "multi", "name": "m", "graders": {"a": EQUAL, "b": CODE}, "calculate_output": "(a + b) / 4"}
    one = {"type": "multi", "name": "m", "graders": EQUAL, "calculate_output": "2 * equal"}
    assert (run(house, many).reward, run(house, one).reward) == (0.5, 2.0)
    assert run(house, many).sub_rewards == {"a": 1.0, "b": 1.0}
    reply = house.client().fine_tuning.alpha.graders.validate(grader=one)
    assert reply.to_dict() == {"grader": one}
    # The client's own types know the second form only, so the first comes back as plain JSON here.
    reply = httpx2.post(f"{house.address}/v1/fine_tuning/alpha/graders/validate", json={"grader": many})
    assert reply.json() == {"grader": many}


def test_what_goes_wrong_is_told_in_the_reply(house: Graded) -> None:
    failed = run(house, CODE | {"source": "def grade(sample, item):\n    return item['gone']"}).metadata.errors
    assert failed.python_grader_runtime_error and "KeyError: 'gone'" in (
        failed.python_grader_runtime_error_details or ""
    )
    assert run(house, EQUAL | {"reference": "{{ item.gone }}"}).metadata.errors.invalid_variable_error
    assert run(house, EQUAL | {"input": "{{ sample.output_json.x }}"}).metadata.errors.sample_parse_error
    lazy = run(house, CODE | {"source": "import time\ndef grade(sample, item):\n    time.sleep(60)"}).metadata.errors
    assert (lazy.python_grader_server_error, lazy.python_grader_server_error_type) == (True, "timeout")


@pytest.mark.parametrize("call", ["validate", "run"])
@pytest.mark.parametrize(
    ("grader", "code"),
    [
        (CODE | {"source": "def grade(sample, item) return 1"}, "invalid_grader_source"),
        (CODE | {"source": "x = 1"}, "invalid_grader_source"),
        (EQUAL | {"input": "{{ nothing }}"}, "invalid_variable_error"),
        ({"type": "multi", "name": "m", "graders": {"a": EQUAL}, "calculate_output": "a +"}, "formula_parse_error"),
    ],
)
def test_a_bad_grader_is_refused(house: Graded, grader: dict[str, Any], code: str, call: str) -> None:
    error = refused(house, grader, call=call)
    assert (error.status_code, error.code) == (400, code)


def test_an_unknown_model_is_refused(house: Graded) -> None:
    error = refused(house, SCORE | {"model": "gpt-9"})
    assert (error.status_code, error.code, error.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    "grader", [{"type": "regex"}, {}, EQUAL | {"operation": "is"}, CODE | {"source": "#" * 300_000}]
)
def test_what_is_no_grader_is_refused_by_its_field(house: Graded, grader: dict[str, Any]) -> None:
    error = refused(house, grader)
    assert error.status_code == 400 and (error.param or "").startswith("grader")


def test_without_isolation_python_is_refused(house: Graded, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(folder: object) -> None:
        raise IsolationError("python graders cannot be isolated on this machine", why="a test says so")

    monkeypatch.setattr("luthier.jobs.service.grading.ensure_isolated", none_here)
    for call in ("validate", "run"):
        error = refused(house, CODE, call=call)
        assert (error.status_code, error.code) == (400, "python_grader_unavailable")
        assert "a test says so" in error.message and "Linux" in error.message
