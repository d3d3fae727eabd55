from pathlib import Path

import pytest
from tests.jobs.service.made import OWNER, chat_lines, messages, new_job, put, service_of

from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service
from luthier.jobs.service.tuning import NewJob

SFT, DPO = "method.supervised.hyperparameters", "method.dpo.hyperparameters"
WANDB = [{"type": "wandb", "wandb": {"project": "p"}}]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path)


def refused(service: Service, **more: object) -> Refusal:
    with pytest.raises(Refusal) as error:
        new_job(service, **more)
    assert list(service.home.jobs.iterdir()) == [] and service.tuning.list(OWNER).data == []
    return error.value


def test_a_new_job_waits_for_its_files_to_be_read(service: Service) -> None:
    job = new_job(service, suffix="mine", seed=5, metadata={"a": "b"}, hyperparameters={"n_epochs": 2}, old_style=True)
    assert service.tuning.get(job.id, OWNER) == job
    assert (job.status, job.base, job.seed, job.metadata) == ("validating_files", "tiny", 5, {"a": "b"})
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size, job.old_style) == (2, "auto", True)
    assert messages(service, job) == [f"Created fine-tuning job: {job.id}"]


def test_a_seed_is_drawn_where_none_is_given(service: Service) -> None:
    seeds = {new_job(service).seed for _ in range(5)}
    assert len(seeds) == 5 and all(0 <= seed < 2**31 for seed in seeds)


def test_an_alias_names_what_really_runs(service: Service) -> None:
    job = new_job(service, model="gpt-4o-mini-2024-07-18")
    assert (job.model, job.base) == ("gpt-4o-mini-2024-07-18", "tiny")


def test_a_job_keeps_its_files_whatever_happens_to_them(service: Service) -> None:
    job = new_job(service)
    service.files.delete(job.training_file, OWNER)
    assert (service.home.jobs / job.id / "training.jsonl").read_bytes() == chat_lines()


@pytest.mark.parametrize(
    ("more", "status", "code", "param"),
    [
        ({"model": "gpt-none"}, 404, "model_not_found", "model"),
        ({"model": "ft:tiny:luthier::abcdefgh"}, 400, "model_not_available", "model"),
        ({"training_file": "file-nothing"}, 404, None, "training_file"),
        ({"validation_file": "../../etc/passwd"}, 404, None, "validation_file"),
        ({"method": "reinforcement"}, 400, "model_not_available", "method.type"),
        ({"method": "magic"}, 400, None, "method.type"),
        ({"suffix": ""}, 400, None, "suffix"),
        ({"suffix": "x" * 65}, 400, None, "suffix"),
        ({"seed": -1}, 400, None, "seed"),
        ({"seed": 2**31}, 400, None, "seed"),
        ({"metadata": {str(n): "" for n in range(17)}}, 400, None, "metadata"),
        ({"metadata": {"x" * 65: ""}}, 400, None, "metadata"),
        ({"metadata": {"x": "y" * 513}}, 400, None, "metadata"),
        ({"integrations": WANDB}, 400, "integration_not_available", "integrations"),
        ({"hyperparameters": {"batch_size": 0}}, 400, None, f"{SFT}.batch_size"),
        ({"hyperparameters": {"batch_size": 257}}, 400, None, f"{SFT}.batch_size"),
        ({"hyperparameters": {"n_epochs": 51}, "old_style": True}, 400, None, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, 400, None, f"{SFT}.learning_rate_multiplier"),
        ({"hyperparameters": {"learning_rate_multiplier": float("inf")}}, 400, None, f"{SFT}.learning_rate_multiplier"),
        ({"hyperparameters": {"learning_rate_multiplier": float("nan")}}, 400, None, f"{SFT}.learning_rate_multiplier"),
        ({"hyperparameters": {"beta": 0.1}}, 400, None, f"{SFT}.beta"),
        ({"method": "dpo", "hyperparameters": {"beta": 0}}, 400, None, f"{DPO}.beta"),
        ({"method": "dpo", "hyperparameters": {"beta": 2.1}}, 400, None, f"{DPO}.beta"),
        ({"suffix": "half \ud800"}, 400, None, None),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    service: Service, more: dict[str, object], status: int, code: str | None, param: str | None
) -> None:
    error = refused(service, **more)
    assert (error.status, error.error_code, error.param) == (status, code, param)


def test_the_texts_of_refusals(service: Service) -> None:
    assert refused(service, training_file="file-abc123").what == "No such File object: file-abc123"
    assert refused(service, model="gpt-none").what.startswith("The model 'gpt-none' does not exist")
    with pytest.raises(Refusal, match="Could not find fine tune: 123") as error:
        service.tuning.get("123", OWNER)
    assert (error.value.status, error.value.error_code, error.value.param) == (
        404,
        "fine_tune_not_found",
        "fine_tune_id",
    )


@pytest.mark.parametrize("good", [{"batch_size": 256}, {"n_epochs": 50}, {"learning_rate_multiplier": 0.01}])
def test_the_documented_ranges_are_taken(service: Service, good: dict[str, float]) -> None:
    assert new_job(service, hyperparameters=good).hyperparameters.model_dump(exclude_unset=True) == good
    assert new_job(service, method="dpo", hyperparameters={"beta": 2}).hyperparameters.beta == 2
    assert new_job(service, suffix="Mine, äöü / 7").suffix == "Mine, äöü / 7"


def test_files_must_be_there_for_fine_tuning(service: Service) -> None:
    other, wrong = put(service, chat_lines(), owner="other"), put(service, chat_lines(), purpose="batch")
    good = put(service, chat_lines())
    for field in ("training_file", "validation_file"):
        for file, status in ((other, 404), (wrong, 400)):
            asked = {"model": "tiny", "training_file": good.id, field: file.id}
            with pytest.raises(Refusal) as error:
                service.tuning.create(NewJob(**asked), OWNER)
            assert (error.value.status, error.value.param) == (status, field)


def test_jobs_are_listed_by_page_and_metadata(service: Service) -> None:
    tags = [{"team": "a", "n": "1"}, {"team": "a"}, {"team": "b"}, None, {}, {'q"uote': "x\\y"}]
    jobs = [new_job(service, metadata=tag).id for tag in tags]

    def listed(**how: object) -> list[str]:
        return [job.id for job in service.tuning.list(OWNER, **how).data]

    assert listed() == jobs[::-1] and service.tuning.list("other").data == []
    page = service.tuning.list(OWNER, limit=2, after=jobs[4])
    assert [job.id for job in page.data] == jobs[2:4][::-1] and page.has_more
    assert listed(metadata={"team": "a"}) == [jobs[1], jobs[0]]
    assert listed(metadata={"team": "a", "n": "1"}) == [jobs[0]]
    assert listed(metadata={"team": "c"}) == [] == listed(metadata={"m": "a"})
    assert listed(metadata={'q"uote': "x\\y"}) == [jobs[5]]
    assert listed(no_metadata=True) == [jobs[3]]
    with pytest.raises(Refusal, match="Could not find"):
        listed(after="ftjob-nothing")


def test_another_project_sees_no_job(service: Service) -> None:
    job = new_job(service)
    tuning = service.tuning
    for act in (tuning.get, tuning.cancel, tuning.pause, tuning.resume, tuning.events, tuning.checkpoints):
        with pytest.raises(Refusal) as error:
            act(job.id, "other")
        assert error.value.status == 404
    assert tuning.get(job.id, OWNER).status == "validating_files"


def test_events_are_paged_newest_first(service: Service) -> None:
    job = new_job(service)
    for step in range(1, 8):
        service.events.step(job.id, {"step": step, "total_steps": 7, "train_loss": 0.5})
    first = service.tuning.events(job.id, OWNER, limit=3)
    assert [event.key for event in first.data] == ["step-7", "step-6", "step-5"] and first.has_more
    rest = service.tuning.events(job.id, OWNER, limit=100, after=first.data[-1].id)
    assert [event.key for event in rest.data] == ["step-4", "step-3", "step-2", "step-1", "created"]
    with pytest.raises(Refusal, match="No such"):
        service.tuning.events(job.id, OWNER, after="ftevent-nothing")


def test_a_cancelled_job_is_over(service: Service) -> None:
    job = service.tuning.cancel(new_job(service).id, OWNER)
    assert job.status == "cancelled" and job.finished_at and job.error is None
    for act in (service.tuning.cancel, service.tuning.pause, service.tuning.resume):
        with pytest.raises(Refusal) as error:
            act(job.id, OWNER)
        assert error.value.status == 400
    assert messages(service, job)[1:] == ["The job was cancelled by the user"]
