"""Fine-tuning jobs, asked by the official client; the workers are without torch."""

import asyncio
import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.api.fakes import HELLO
from tests.api.whole import Whole, refused, whole_in
from tests.jobs.service.made import OWNER, chat_lines, lines_of, wait_for

from luthier.jobs.service.ids import derived_id

HOSTED = "gpt-4o-mini-2024-07-18"
"""A name in people's scripts, which the settings map to the base `tiny`."""
NEVER = "ftjob-000000000000000000000000"
PAIR = {"input": {"messages": [{"role": "user", "content": "a"}]}}
PAIR |= {f"{kind}_output": [{"role": "assistant", "content": kind}] for kind in ("preferred", "non_preferred")}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_in(tmp_path_factory.mktemp("tuning")) as house:
        yield house


@pytest.fixture(scope="module")
def rows(house: Whole) -> str:
    return house.upload().id


@pytest.fixture(scope="module")
def done(house: Whole, rows: str) -> Any:
    """Return a job that has succeeded, with a checkpoint."""
    job = ended(house, house.client().fine_tuning.jobs.create(model=HOSTED, training_file=rows, suffix="steps-a").id)
    add_checkpoint(house, job.id, 10)
    add_checkpoint(house, job.id, 20)
    return job


def ended(house: Whole, id: str, *states: str) -> Any:
    jobs = house.client().fine_tuning.jobs
    wait_for(lambda: jobs.retrieve(id).status in (states or ("succeeded", "failed", "cancelled")), seconds=60)
    return jobs.retrieve(id)


def add_checkpoint(house: Whole, id: str, step: int) -> None:
    """Put in what a worker with torch would: the fake one keeps no snapshots."""
    job, database = house.service.queue.get(id), house.service.database
    folder = house.service.home.jobs / id / "train" / "snapshots" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    name, metrics = house.service.catalogue.name_of(job, step), {"step": step, "train_loss": 0.5}
    house.service.catalogue.add(name, folder, job, OWNER)
    values = {"job_id": id, "model": name, "created_at": int(time.time()), "step": step, "metrics": metrics}
    database.query("add_checkpoint", id=derived_id("ftckpt_", id, step), **values)


def test_a_job_from_creation_to_a_model(house: Whole, rows: str) -> None:
    client, valid = house.client(), house.upload(chat_lines(first=50)).id
    made = client.fine_tuning.jobs.create(
        model=HOSTED, training_file=rows, validation_file=valid, suffix="steps", seed=7, metadata={"team": "a"}
    )
    assert re.fullmatch(r"ftjob-[a-z0-9]{24}", made.id)
    assert (made.object, made.status, made.model, made.seed) == ("fine_tuning.job", "validating_files", HOSTED, 7)
    assert (made.training_file, made.validation_file, made.metadata) == (rows, valid, {"team": "a"})
    assert made.error is None and made.fine_tuned_model is None and made.finished_at is None
    assert made.hyperparameters.n_epochs == "auto" and made.method.type == "supervised"
    assert made.organization_id == "luthier" and made.result_files == []

    job = ended(house, made.id)
    assert job.status == "succeeded" and job.error is None and job.finished_at >= job.created_at
    assert job.fine_tuned_model == f"ft:tiny:luthier:steps:{made.id[-8:]}"
    assert job.trained_tokens == 300 and job.estimated_finish is None
    table = base64.b64decode(client.files.content(job.result_files[0]).read()).decode()
    assert table.startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.0,")
    assert client.files.retrieve(job.result_files[0]).purpose == "fine-tune-results"


def test_live_extras_are_told(house: Whole, done: Any) -> None:
    told = house.http().get(f"/v1/fine_tuning/jobs/{done.id}").json()
    assert (told["user_provided_suffix"], told["usage_metrics"], told["shared_with_openai"]) == ("steps-a", None, False)


def test_events_are_the_hosted_texts_newest_first(house: Whole, done: Any, rows: str) -> None:
    client = house.client()
    events = [*client.fine_tuning.jobs.list_events(done.id, limit=7)]
    told = [event.message for event in events][::-1]
    assert told[:4] == [
        f"Created fine-tuning job: {done.id}",
        f"Validating training file: {rows}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
    ]
    assert told[4] == "Step 1/20: training loss=1.00" and "Step 20/20: training loss=0.05" in told
    assert told[-2:] == [f"New fine-tuned model created: {done.fine_tuned_model}", "The job has successfully completed"]
    assert len({event.id for event in events}) == len(events) == 4 + 20 + 2
    metrics = events[2]
    assert (metrics.type, metrics.level, metrics.object) == ("metrics", "info", "fine_tuning.job.event")
    assert metrics.data == {"step": 20, "total_steps": 20, "train_loss": 0.05} and metrics.id.startswith("ftevent-")
    page = client.fine_tuning.jobs.list_events(done.id)
    assert len(page.data) == 20 and page.has_more
    with pytest.raises(openai.NotFoundError) as raised:
        client.fine_tuning.jobs.list_events(done.id, after="ftevent-none")
    refused(raised, openai.NotFoundError, param="after")


def test_checkpoints_can_be_asked_as_models(house: Whole, done: Any) -> None:
    client = house.client()
    newest, oldest = client.fine_tuning.jobs.checkpoints.list(done.id)
    assert newest.fine_tuned_model_checkpoint == f"{done.fine_tuned_model}:ckpt-step-20"
    assert (newest.step_number, oldest.step_number, newest.fine_tuning_job_id) == (20, 10, done.id)
    assert newest.object == "fine_tuning.job.checkpoint" and newest.metrics.train_loss == 0.5
    assert newest.metrics.full_valid_loss is None, "what was not measured is not told"
    assert [one.id for one in client.fine_tuning.jobs.checkpoints.list(done.id, limit=1)] == [newest.id, oldest.id]
    told = house.http().get(f"/v1/fine_tuning/jobs/{done.id}/checkpoints?limit=1").json()
    assert (told["first_id"], told["last_id"], told["has_more"]) == (newest.id, newest.id, True)
    messages = [{"role": "user", "content": "hello"}]
    for model in (done.fine_tuned_model, oldest.fine_tuned_model_checkpoint):
        said = client.chat.completions.create(model=model, messages=messages)
        assert said.model == model and "says hello" in said.choices[0].message.content


def test_permissions_need_an_admin_key_and_open_a_checkpoint(house: Whole, done: Any) -> None:
    name = f"{done.fine_tuned_model}:ckpt-step-10"
    permissions, other = house.client("admin").fine_tuning.checkpoints.permissions, house.client("other")
    with pytest.raises(openai.PermissionDeniedError) as raised:
        house.client().fine_tuning.checkpoints.permissions.create(name, project_ids=["other"])
    refused(raised, openai.PermissionDeniedError, code="insufficient_permissions")
    with pytest.raises(openai.NotFoundError) as raised:
        other.models.retrieve(name)
    refused(raised, openai.NotFoundError, code="model_not_found")

    first, second = permissions.create(name, project_ids=["other", "third"])
    assert (first.object, first.project_id, first.id[:3]) == ("checkpoint.permission", "other", "cp_")
    assert other.models.retrieve(name).id == name
    assert [one.id for one in permissions.list(name)] == [second.id, first.id]
    assert [one.id for one in permissions.list(name, order="ascending", limit=1)] == [first.id, second.id]
    assert [one.id for one in permissions.list(name, project_id="other")] == [first.id]
    assert permissions.retrieve(name, project_id="other").data[0].id == first.id
    gone = permissions.delete(first.id, fine_tuned_model_checkpoint=name)
    assert (gone.id, gone.deleted, gone.object) == (first.id, True, "checkpoint.permission")
    with pytest.raises(openai.NotFoundError):
        other.models.retrieve(name)
    with pytest.raises(openai.NotFoundError) as raised:
        permissions.delete(first.id, fine_tuned_model_checkpoint=name)
    refused(raised, openai.NotFoundError, param="permission_id")


def test_jobs_are_paged_and_filtered_by_metadata(house: Whole) -> None:
    jobs = house.client("other").fine_tuning.jobs
    file = house.upload(key="other").id
    given: list[Any] = [{"team": "a", "run": "1"}, {"team": "a"}, {"team": "b"}, None]
    made = [jobs.create(model="tiny", training_file=file, metadata=metadata).id for metadata in given]
    assert [job.id for job in jobs.list(limit=3)] == made[::-1]
    assert [job.id for job in jobs.list(metadata={"team": "a"})] == [made[1], made[0]]
    assert [job.id for job in jobs.list(metadata={"team": "a", "run": "1"})] == [made[0]]
    assert [*jobs.list(metadata={"none": "a"})] == [*jobs.list(metadata={"k" * 65: "a"})] == []
    assert [job.id for job in jobs.list(extra_query={"metadata": "null"})] == [made[3]]
    page = jobs.list(limit=2)
    assert page.has_more and [job.id for job in jobs.list(after=page.data[-1].id)] == [made[1], made[0]]
    with pytest.raises(openai.NotFoundError) as raised:
        jobs.list(after=NEVER)
    refused(raised, openai.NotFoundError, code="fine_tune_not_found")
    for job in jobs.list():
        jobs.cancel(job.id)


FILTERS = ("metadata=all", "metadata[a]=1&metadata[a]=2", "metadata[a]=1&metadata=null", "metadata[a][b]=1")


@pytest.mark.parametrize("query", FILTERS)
def test_a_filter_that_is_none_is_refused_and_not_ignored(house: Whole, query: str) -> None:
    reply = house.http().get(f"/v1/fine_tuning/jobs?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "metadata")


def test_pause_resume_and_cancel(house: Whole, rows: str) -> None:
    jobs = house.client().fine_tuning.jobs
    # The strict client does not know `paused`, as measured of the hosted service's own schema.
    loose = openai.OpenAI(base_url=f"{house.address}/v1", api_key=house.keys["plain"]).fine_tuning.jobs
    job = jobs.create(model="tiny", training_file=rows, suffix="slow").id
    with pytest.raises(openai.BadRequestError) as raised:
        jobs.resume(job)
    refused(raised, openai.BadRequestError, code="invalid_job_state")
    wait_for(lambda: any(event.type == "metrics" for event in loose.list_events(job)))
    assert loose.retrieve(job).estimated_finish >= int(time.time()) - 1
    assert loose.pause(job).status == "pausing"
    wait_for(lambda: loose.retrieve(job).status == "paused")
    with pytest.raises(openai.APIResponseValidationError):
        jobs.retrieve(job)
    assert loose.resume(job).status == "queued"
    cancelled = jobs.cancel(job)
    assert cancelled.status == "cancelled" and cancelled.finished_at
    with pytest.raises(openai.BadRequestError) as raised:
        jobs.cancel(job)
    refused(raised, openai.BadRequestError, message=f"Job has already completed: {job}", code="invalid_job_state")


def test_both_styles_of_hyperparameters(house: Whole, rows: str) -> None:
    jobs = house.client().fine_tuning.jobs
    wanted = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
    old = jobs.create(model="tiny", training_file=rows, hyperparameters=wanted)
    method = {"type": "supervised", "supervised": {"hyperparameters": wanted}}
    new = jobs.create(model="tiny", training_file=rows, method=method)
    for job in (old, new):
        assert job.hyperparameters.model_dump() == wanted
        assert job.method.supervised.hyperparameters.model_dump() == wanted
        jobs.cancel(job.id)
    for bare in ({"type": "supervised"}, {"type": "supervised", "supervised": {}}):
        job = jobs.create(model="tiny", training_file=rows, method=bare)
        assert job.hyperparameters.batch_size == "auto" and job.method.supervised.hyperparameters.n_epochs == "auto"
        jobs.cancel(job.id)


def test_dpo_has_a_beta(house: Whole) -> None:
    jobs, file = house.client().fine_tuning.jobs, house.upload(lines_of([PAIR] * 12)).id
    for asked, told in ((0.3, 0.3), ("auto", "auto")):
        method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": asked, "n_epochs": 1}}}
        job = jobs.create(model="tiny", training_file=file, method=method)
        assert job.method.dpo.hyperparameters.beta == told and job.method.dpo.hyperparameters.n_epochs == 1
        assert job.method.supervised is None and job.hyperparameters.n_epochs == 1
        jobs.cancel(job.id)


METHOD = "method.supervised.hyperparameters"
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no such model": ({"model": "gpt-9"}, {"status": 404, "code": "model_not_found", "param": "model"}),
    "a tuned model": ({"model": "ft:tiny:luthier::a"}, {"code": "model_not_available", "param": "model"}),
    "no such file": ({"training_file": "file-abc"}, {"status": 404, "param": "training_file"}),
    "no such second file": ({"validation_file": "file-abc"}, {"status": 404, "param": "validation_file"}),
    "reinforcement": ({"method": {"type": "reinforcement"}}, {"code": "model_not_available", "param": "method.type"}),
    "unknown method": ({"method": {"type": "magic"}}, {"param": "method.type"}),
    "both styles": (
        {"method": {"type": "supervised"}, "hyperparameters": {"n_epochs": 1}},
        {"param": "hyperparameters"},
    ),
    "epochs": ({"hyperparameters": {"n_epochs": 51}}, {"param": "hyperparameters.n_epochs"}),
    "beta without dpo": (
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"beta": 1}}}},
        {"param": f"{METHOD}.beta", "code": "unknown_parameter"},
    ),
    "long suffix": ({"suffix": "a" * 65}, {"param": "suffix"}),
    "seed": ({"seed": -1}, {"param": "seed"}),
    "metadata": ({"metadata": {str(number): "" for number in range(17)}}, {"param": "metadata"}),
    "integration": (
        {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
        {"code": "integration_not_available", "param": "integrations"},
    ),
    "unknown field": ({"extra_body": {"epochs": 3}}, {"code": "unknown_parameter", "param": "epochs"}),
    "left out": ({"extra_body": {"training_file": None}}, {"param": "training_file"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_done_is_refused_by_name(house: Whole, rows: str, name: str) -> None:
    asked, told = WRONG[name]
    with pytest.raises(openai.APIStatusError) as raised:
        house.client().fine_tuning.jobs.create(**{"model": "tiny", "training_file": rows, **asked})
    fields = {"status": 400, "type": "invalid_request_error", **told}
    refused(raised, openai.NotFoundError if fields["status"] == 404 else openai.BadRequestError, **fields)


def test_the_recorded_words_for_an_unknown_job(house: Whole) -> None:
    jobs = house.client().fine_tuning.jobs
    asks: list[Callable[[str], Any]] = [
        *(jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list)
    ]
    for ask in asks:
        with pytest.raises(openai.NotFoundError) as raised:
            ask("123")
        message = "Could not find fine tune: 123"
        refused(raised, openai.NotFoundError, message=message, code="fine_tune_not_found", param="fine_tune_id")


def test_another_projects_job_is_not_there(house: Whole, done: Any) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        house.client("other").fine_tuning.jobs.retrieve(done.id)
    refused(raised, openai.NotFoundError, code="fine_tune_not_found")
    with pytest.raises(openai.NotFoundError) as raised:
        house.client("other").chat.completions.create(model=done.fine_tuned_model, messages=HELLO)
    assert house.client().fine_tuning.jobs.retrieve(done.id).id == done.id


def test_a_bad_file_ends_the_job_with_the_reason(house: Whole) -> None:
    few = house.upload(chat_lines(3)).id
    job = ended(house, house.client().fine_tuning.jobs.create(model="tiny", training_file=few).id)
    assert job.status == "failed" and job.fine_tuned_model is None
    assert (job.error.code, job.error.param) == ("invalid_n_examples", "training_file")
    assert job.error.message == "Training file has 3 example(s), but must have at least 10 examples"


def test_a_file_for_something_else_is_refused(house: Whole) -> None:
    file = house.client().files.create(file=("a.txt", b"hello"), purpose="user_data").id
    with pytest.raises(openai.BadRequestError) as raised:
        house.client().fine_tuning.jobs.create(model="tiny", training_file=file)
    refused(raised, openai.BadRequestError, code="invalid_file_purpose", param="training_file")


def test_azures_extra_fields(house: Whole, rows: str) -> None:
    jobs = house.client().fine_tuning.jobs
    extra = {"trainingType": "globalStandard", "prompt_loss_weight": 0}
    job = jobs.create(model="tiny", training_file=rows, extra_body=extra)
    assert jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError) as raised:
        jobs.create(model="tiny", training_file=rows, extra_body={"prompt_loss_weight": 0.1})
    refused(raised, openai.BadRequestError, param="prompt_loss_weight")


def test_the_async_client_does_the_same(house: Whole, rows: str, done: Any) -> None:
    async def ask() -> None:
        async with house.async_client() as client:
            jobs = client.fine_tuning.jobs
            job = await jobs.create(model="tiny", training_file=rows)
            assert (await jobs.retrieve(job.id)).id == job.id
            assert job.id in [one.id async for one in jobs.list(limit=5)]
            assert (await jobs.cancel(job.id)).status == "cancelled"
            told = [event.message async for event in jobs.list_events(job.id)]
            assert told[0] == "The job was cancelled by the user"
            assert [one.step_number async for one in jobs.checkpoints.list(done.id, limit=1)] == [20, 10]
            with pytest.raises(openai.NotFoundError):
                await jobs.pause("123")

    asyncio.run(ask())


def test_a_job_keeps_its_file_when_the_client_deletes_it(house: Whole, tmp_path: Path) -> None:
    file = house.upload().id
    job = house.client().fine_tuning.jobs.create(model="tiny", training_file=file)
    assert house.client().files.delete(file).deleted
    assert ended(house, job.id).status == "succeeded"


def test_a_job_asked_twice_with_one_key_is_one_job(house: Whole, rows: str) -> None:
    jobs, more = house.client().fine_tuning.jobs, {"extra_headers": {"Idempotency-Key": "job-1"}}
    first = jobs.create(model="tiny", training_file=rows, **more)
    again = jobs.create(model="tiny", training_file=rows, **more)
    assert again == first and [job.id for job in jobs.list()].count(first.id) == 1
    with pytest.raises(openai.ConflictError) as raised:
        jobs.create(model="tiny", training_file=rows, seed=1, **more)
    refused(raised, openai.ConflictError, code="idempotency_key_reused", param="Idempotency-Key")
    file = house.upload(key="other").id
    other = house.client("other").fine_tuning.jobs.create(model="tiny", training_file=file, **more)
    assert other.id != first.id, "another project's key is another key"
    assert ended(house, first.id).status == "succeeded"


def test_a_refused_job_leaves_its_key_free(house: Whole, rows: str) -> None:
    jobs, more = house.client().fine_tuning.jobs, {"extra_headers": {"Idempotency-Key": "job-2"}}
    with pytest.raises(openai.NotFoundError):
        jobs.create(model="none", training_file=rows, **more)
    made = jobs.create(model="tiny", training_file=rows, **more)
    assert jobs.cancel(made.id).id == made.id


def test_twenty_at_once_with_one_key_are_one_job(house: Whole, rows: str) -> None:
    async def ask() -> set[str]:
        async with house.async_client() as client:
            more = {"extra_headers": {"Idempotency-Key": "job-3"}}
            create = client.fine_tuning.jobs.create
            made = await asyncio.gather(*(create(model="tiny", training_file=rows, **more) for _ in range(20)))
            return {job.id for job in made}

    assert len(asyncio.run(ask())) == 1
