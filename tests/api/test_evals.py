"""Evals through the official client, which checks every field of the replies."""

import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.api.fakes import served
from tests.api.graded import CODE, CONFIG, EQUAL, LABEL, NEAR, SCORE, Graded, graded_in, parts_in
from tests.jobs.service.made import OWNER

from luthier.api.app import make_app

BAD_FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "thing"}}}
ENDED = ("completed", "failed", "canceled")
ROWS = [{"item": {"ask": "affirm", "want": "yes"}}, {"item": {"ask": "deny", "want": "yes"}}]
TEMPLATE = {"type": "template", "template": [{"role": "user", "content": "Please {{ item.ask }}."}]}
MODEL_SOURCE = {
    "type": "completions",
    "model": "tiny",
    "input_messages": TEMPLATE,
    "source": {"type": "file_content", "content": ROWS},
    "sampling_params": {"temperature": 0, "seed": 7, "max_completion_tokens": 20, "top_p": 0.9},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graded]:
    with graded_in(tmp_path_factory.mktemp("evals")) as house:
        yield house


def made(house: Graded, *criteria: dict[str, Any], **more: Any):
    return house.client().evals.create(
        **{"name": "my eval", "data_source_config": CONFIG, "testing_criteria": criteria or [EQUAL], **more}
    )


def run_of(house: Graded, eval_id: str, source: dict[str, Any], **more: Any):
    runs = house.client().evals.runs
    run = runs.create(eval_id, data_source=source, **more)
    begin = time.monotonic()
    while run.status not in ENDED and time.monotonic() - begin < 60:
        time.sleep(0.05)
        run = runs.retrieve(run.id, eval_id=eval_id)
    return run


def at_hand(*texts: str) -> dict[str, Any]:
    rows = [{"item": {"want": "yes"}, "sample": {"output_text": text}} for text in texts]
    return {"type": "jsonl", "source": {"type": "file_content", "content": rows}}


def refused(call, *given: Any, **named: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as error:
        call(*given, **named)
    return error.value


def test_an_eval_is_made_changed_and_deleted(house: Graded) -> None:
    evals = house.client().evals
    one = made(house, EQUAL, NEAR, CODE, SCORE, LABEL, metadata={"team": "a"})
    assert (one.object, one.name, one.metadata) == ("eval", "my eval", {"team": "a"})
    assert [criterion.to_dict() for criterion in one.testing_criteria] == [EQUAL, NEAR, CODE, SCORE, LABEL]
    assert one.data_source_config.to_dict()["schema"]["properties"]["item"] == CONFIG["item_schema"]
    assert evals.retrieve(one.id).to_dict() == one.to_dict()

    assert evals.update(one.id, name="other").metadata == {"team": "a"}
    assert evals.update(one.id, metadata={"team": "b"}).name == "other"
    assert evals.update(one.id, metadata=None).metadata is None
    gone = evals.delete(one.id)
    assert (gone.deleted, gone.eval_id, gone.object) == (True, one.id, "eval.deleted")
    error = refused(evals.retrieve, one.id)
    assert (error.status_code, error.param) == (404, "eval_id") and f"No such Eval object: {one.id}" in error.message
    assert refused(evals.delete, one.id).status_code == refused(evals.update, one.id, name="x").status_code == 404


def test_creating_replies_201(house: Graded) -> None:
    body = {"data_source_config": CONFIG, "testing_criteria": [EQUAL]}
    reply = httpx2.post(f"{house.address}/v1/evals", json=body)
    assert (reply.status_code, reply.json()["name"]) == (201, "")
    run = httpx2.post(f"{house.address}/v1/evals/{reply.json()['id']}/runs", json={"data_source": at_hand("yes")})
    assert run.status_code == 201


def test_evals_are_listed_in_both_orders_and_by_pages(house: Graded) -> None:
    evals = house.client().evals
    ids = [made(house, name=f"number {number}").id for number in range(3)]
    listed = [one.id for one in evals.list(limit=2)]
    assert [id for id in listed if id in ids] == ids
    assert [one.id for one in evals.list(order="desc")][:3] == ids[::-1]
    page = evals.list(order="desc", limit=2)
    assert (len(page.data), page.has_more) == (2, True)
    # The change must be later than the other evals by a second to be seen as such.
    time.sleep(1.1)
    evals.update(ids[0], name="changed")
    assert next(iter(evals.list(order="desc", order_by="updated_at"))).id == ids[0]
    assert refused(evals.list, after="eval_nothing").status_code == 404


def test_rows_at_hand_are_judged(house: Graded) -> None:
    one = made(house, EQUAL, NEAR, CODE | {"pass_threshold": 0.2})
    run = run_of(house, one.id, at_hand("yes", "yes!", "no"), name="first", metadata={"k": "v"})
    assert (run.status, run.name, run.metadata, run.model) == ("completed", "first", {"k": "v"}, "")
    assert run.result_counts.to_dict() == {"total": 3, "errored": 0, "failed": 2, "passed": 1}
    assert [(part.testing_criteria, part.passed, part.failed) for part in run.per_testing_criteria_results] == [
        ("equal", 1, 2),
        ("near", 2, 1),
        ("code", 3, 0),
    ]
    assert run.error.to_dict() == {"code": "", "message": ""}
    items = list(house.client().evals.runs.output_items.list(run.id, eval_id=one.id))
    assert [item.status for item in items] == ["pass", "fail", "fail"]
    assert [(result.name, result.type, result.passed) for result in items[1].results] == [
        ("equal", "string-check-grader", False),
        ("near", "text-similarity-grader", True),
        ("code", "python-grader", True),
    ]
    assert (items[1].datasource_item, items[1].datasource_item_id) == ({"want": "yes"}, 1)
    assert items[1].sample.output[0].content == "yes!"


@pytest.mark.parametrize("kind", ["completions", "responses"])
def test_a_model_answers_first(house: Graded, kind: str) -> None:
    one = made(house, EQUAL, SCORE, LABEL)
    run = run_of(house, one.id, MODEL_SOURCE | {"type": kind})
    assert (run.status, run.model) == ("completed", "tiny")
    assert run.result_counts.to_dict() == {"total": 2, "errored": 0, "failed": 1, "passed": 1}
    (usage,) = run.per_model_usage
    assert (usage.run_model_name, usage.invocation_count) == ("tiny", 6)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 6
    first = next(iter(house.client().evals.runs.output_items.list(run.id, eval_id=one.id)))
    sample = first.sample
    assert [message.to_dict() for message in sample.input] == [{"role": "user", "content": "Please affirm."}]
    assert (sample.output[0].content, sample.finish_reason, sample.model) == ("yes", "stop", "tiny")
    assert (sample.seed, sample.temperature, sample.max_completion_tokens, sample.top_p) == (7, 0, 20, 0.9)
    assert [result.score for result in first.results] == [1.0, 0.75, 1.0]
    again = house.client().evals.runs.output_items.retrieve(first.id, eval_id=one.id, run_id=run.id)
    assert again.to_dict() == first.to_dict()


def test_a_run_answers_with_what_it_was_given(house: Graded) -> None:
    one = made(house)
    run = run_of(house, one.id, MODEL_SOURCE)
    assert run.data_source.to_dict() == MODEL_SOURCE


def test_messages_may_stand_in_the_row(house: Graded) -> None:
    one = made(house, data_source_config={"type": "custom", "item_schema": {}})
    rows = [
        {"item": {"talk": [{"role": "user", "content": "affirm"}], "want": "yes"}},
        {"item": {"talk": "affirm", "want": "yes"}},
    ]
    source = {
        "type": "completions",
        "model": "tiny",
        "input_messages": {"type": "item_reference", "item_reference": "item.talk"},
        "source": {"type": "file_content", "content": rows},
    }
    run = run_of(house, one.id, source)
    assert run.result_counts.to_dict() == {"total": 2, "errored": 1, "failed": 0, "passed": 1}
    items = house.client().evals.runs.output_items.list(run.id, eval_id=one.id)
    assert [(item.status, item.sample.error.code) for item in items] == [
        ("pass", ""),
        ("error", "invalid_variable_error"),
    ]


def uploaded(house: Graded, *lines: str) -> str:
    stream = BytesIO("\n".join(lines).encode())
    return house.parts.service.files.create(stream, filename="rows.jsonl", purpose="evals", owner=OWNER).id


def test_rows_may_stand_in_a_file(house: Graded) -> None:
    rows = [{"item": {"want": f"{number % 2}"}, "sample": {"output_text": "1"}} for number in range(30)]
    id = uploaded(house, *map(json.dumps, rows))
    run = run_of(house, (one := made(house)).id, {"type": "jsonl", "source": {"type": "file_id", "id": id}})
    assert run.result_counts.to_dict() == {"total": 30, "errored": 0, "failed": 15, "passed": 15}
    output_items = house.client().evals.runs.output_items
    assert [item.datasource_item_id for item in output_items.list(run.id, eval_id=one.id, limit=7)] == [*range(30)]
    failed = output_items.list(run.id, eval_id=one.id, status="fail", order="desc", limit=100)
    assert [item.datasource_item_id for item in failed] == [*range(28, -1, -2)]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (['{"item": {"want": "x"}}', "not JSON"], "line 2"),
        (['{"want": "x"}'], "line 1"),
        (['{"item": {"want": 3}}'], "row 1 does not fit the item_schema: item.want is not of the type string"),
        ([""], "there are no rows"),
    ],
)
def test_a_file_that_does_not_fit_fails_the_run(house: Graded, lines: list[str], reason: str) -> None:
    id = uploaded(house, *lines)
    run = run_of(house, made(house).id, {"type": "jsonl", "source": {"type": "file_id", "id": id}})
    assert (run.status, run.error.code) == ("failed", "bad_data") and reason in run.error.message


def test_what_cannot_be_judged_is_an_error_of_its_row(house: Graded) -> None:
    one = made(house, EQUAL, EQUAL | {"name": "other", "reference": "{{ item.gone }}"})
    run = run_of(house, one.id, at_hand("yes"))
    assert run.result_counts.errored == 1
    assert [part.passed for part in run.per_testing_criteria_results] == [1, 0]
    (item,) = house.client().evals.runs.output_items.list(run.id, eval_id=one.id, status="error")
    assert item.results[1].to_dict()["metadata"]["errors"]["invalid_variable_error"] is True


def test_runs_are_listed_filtered_and_deleted(house: Graded) -> None:
    one = made(house)
    ids = [run_of(house, one.id, at_hand("yes")).id for _ in range(3)]
    runs = house.client().evals.runs
    assert [run.id for run in runs.list(one.id, limit=2)] == ids
    assert [run.id for run in runs.list(one.id, order="desc")] == ids[::-1]
    assert not list(runs.list(one.id, status="failed")) and len(list(runs.list(one.id, status="completed"))) == 3
    gone = runs.delete(ids[0], eval_id=one.id)
    assert (gone.deleted, gone.run_id, gone.object) == (True, ids[0], "eval.run.deleted")
    assert refused(runs.retrieve, ids[0], eval_id=one.id).status_code == 404
    # What is left goes with its eval.
    house.client().evals.delete(one.id)
    assert refused(runs.retrieve, ids[1], eval_id=one.id).status_code == 404


@pytest.mark.parametrize("suffix", ["", "/cancel"])
def test_a_run_is_cancelled_by_both_addresses(house: Graded, suffix: str) -> None:
    one = made(house)
    house.parts.engine.pause_s = 0.2
    try:
        source = MODEL_SOURCE | {"source": {"type": "file_content", "content": ROWS * 50}}
        run = house.client().evals.runs.create(one.id, data_source=source)
        reply = httpx2.post(f"{house.address}/v1/evals/{one.id}/runs/{run.id}{suffix}")
        assert (reply.status_code, reply.json()["status"]) == (200, "canceled")
    finally:
        house.parts.engine.pause_s = 0.0
    time.sleep(0.5)
    after = house.client().evals.runs.retrieve(run.id, eval_id=one.id)
    assert after.status == "canceled" and after.result_counts.total < 100
    assert house.client().evals.runs.cancel(run.id, eval_id=one.id).status == "canceled"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"data_source_config": {"type": "logs"}}, "data_source_config"),
        ({"data_source_config": {"type": "stored_completions", "metadata": {}}}, "data_source_config"),
        ({"testing_criteria": []}, "testing_criteria"),
        ({"testing_criteria": [{**NEAR, "pass_threshold": None}]}, "testing_criteria.0"),
        ({"testing_criteria": [{"type": "multi"}]}, "testing_criteria.0"),
        ({"testing_criteria": [CODE | {"source": "x"}]}, "testing_criteria[0].source"),
        (
            {"data_source_config": {"type": "custom", "item_schema": {"type": "thing"}}},
            "data_source_config.item_schema",
        ),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
    ],
)
def test_a_bad_eval_is_refused_by_its_field(house: Graded, change: dict[str, Any], param: str) -> None:
    error = refused(made, house, **change)
    assert error.status_code == 400 and (error.param or "").startswith(param)
    if param == "data_source_config":
        assert change["data_source_config"]["type"] in error.message


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "gpt-9"}, 404, "model"),
        ({"model": None}, 400, "data_source.model"),
        ({"input_messages": None}, 400, "data_source.input_messages"),
        ({"source": {"type": "file_id", "id": "file-nothing"}}, 404, "id"),
        ({"source": {"type": "stored_completions"}}, 400, "data_source"),
        ({"source": {"type": "file_content", "content": []}}, 400, "data_source.source.content"),
        ({"source": {"type": "file_content", "content": [{"item": {}}]}}, 400, "data_source.source.content"),
        ({"type": "logs"}, 400, "data_source"),
        ({"sampling_params": {"reasoning_effort": "high"}}, 400, "data_source"),
        ({"sampling_params": {"response_format": BAD_FORMAT}}, 400, "data_source.sampling_params"),
    ],
)
def test_a_bad_run_is_refused_by_its_field(house: Graded, change: dict[str, Any], status: int, param: str) -> None:
    one = made(house)
    source = {name: value for name, value in (MODEL_SOURCE | change).items() if value is not None}
    error = refused(house.client().evals.runs.create, one.id, data_source=source)
    assert error.status_code == status and (error.param or "").startswith(param)


def test_another_projects_evals_are_not_there(house: Graded) -> None:
    one = made(house)
    run = run_of(house, one.id, at_hand("yes"))
    evals = house.client(default_headers={"x-project": "other"}).evals
    assert not list(evals.list())
    assert refused(evals.retrieve, one.id).status_code == 404
    assert refused(evals.delete, one.id).status_code == 404
    assert refused(evals.runs.list, one.id).status_code == 404
    assert refused(evals.runs.retrieve, run.id, eval_id=one.id).status_code == 404
    assert refused(evals.runs.cancel, run.id, eval_id=one.id).status_code == 404
    assert refused(evals.runs.output_items.list, run.id, eval_id=one.id).status_code == 404
    assert refused(evals.runs.create, one.id, data_source=at_hand("yes")).status_code == 404


def test_a_strict_client_reads_a_queued_run(house: Graded) -> None:
    run = house.client().evals.runs.create(made(house).id, data_source=at_hand("yes"))
    assert run.status in ("queued", "in_progress", "completed") and run.report_url.endswith(run.id)


def test_through_the_whole_door(tmp_path: Path) -> None:
    """With key, guard and lifespan, at OpenAI's and at Azure's address."""
    parts = parts_in(tmp_path)
    _, secret = parts.service.keys.create("test")
    with served(make_app(parts.service, parts.inference)) as address:
        assert httpx2.get(f"{address}/v1/evals").status_code == 401
        for prefix in ("/v1", "/openai/v1"):
            client = openai.OpenAI(base_url=address + prefix, api_key=secret, max_retries=0)
            one = client.evals.create(data_source_config=CONFIG, testing_criteria=[EQUAL])
            run = client.evals.runs.create(one.id, data_source=MODEL_SOURCE)
            begin = time.monotonic()
            while run.status not in ENDED and time.monotonic() - begin < 60:
                time.sleep(0.05)
                run = client.evals.runs.retrieve(run.id, eval_id=one.id)
            assert (run.status, run.result_counts.passed) == ("completed", 1)
            graded = client.fine_tuning.alpha.graders.run(grader=EQUAL, model_sample="yes", item={"want": "yes"})
            assert graded.reward == 1.0
