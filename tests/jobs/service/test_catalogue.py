from pathlib import Path

import pytest
from tests.jobs.service.made import OWNER, new_job, service_of

from luthier.jobs.service.records import JobRecord
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path)


def tuned(service: Service, step: int | None = None, **more: object) -> str:
    """Put a model (or a checkpoint) of a new job into the catalogue, as a worker does."""
    job = new_job(service, **more)
    return add(service, job, step)


def add(service: Service, job: JobRecord, step: int | None) -> str:
    name = service.catalogue.name_of(job, step)
    folder = service.home.jobs / job.id / "train" / (f"step-{step}" if step else "weights")
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_text("w")
    service.catalogue.add(name, folder, job, OWNER)
    if step:
        values = {"job_id": job.id, "model": name, "created_at": 1, "step": step, "metrics": {"step": step}}
        service.database.query("add_checkpoint", id=f"ftckpt_{step:024d}", **values)
    return name


def test_names_are_those_of_the_hosted_service(service: Service) -> None:
    job = new_job(service, suffix="My model, v2!")
    assert service.catalogue.name_of(job) == f"ft:tiny:luthier:My-model-v2:{job.id[-8:]}"
    assert service.catalogue.name_of(job, 40) == f"ft:tiny:luthier:My-model-v2:{job.id[-8:]}:ckpt-step-40"
    assert service.catalogue.name_of(new_job(service)).split(":")[3] == ""


def test_bases_and_own_models_are_listed(service: Service) -> None:
    name = tuned(service)
    listed = service.catalogue.list(OWNER)
    assert [model.id for model in listed] == ["tiny", name] and listed[1].owned_by == "luthier"
    assert [model.id for model in service.catalogue.list("other")] == ["tiny"]
    assert service.catalogue.get(name, OWNER) == listed[1] and service.catalogue.get("tiny", "other") == listed[0]
    with pytest.raises(Refusal, match=f"The model '{name}' does not exist") as error:
        service.catalogue.get(name, "other")
    assert (error.value.status, error.value.error_code) == (404, "model_not_found")


def test_every_name_leads_to_what_runs(service: Service) -> None:
    name = tuned(service)
    service.deployments.put("prod", name, OWNER)
    service.deployments.put("plain", "gpt-4o-mini-2024-07-18", OWNER)
    for asked in (name, "prod"):
        served = service.catalogue.resolve(asked, OWNER)
        assert (served.name, served.base, served.base_model) == (name, "tiny", "tiny")
        assert served.adapter and served.adapter.is_relative_to(service.home.path) and served.adapter.is_dir()
    for asked in ("tiny", "plain", "gpt-4o-mini-2024-07-18"):
        served = service.catalogue.resolve(asked, OWNER)
        assert (served.name, served.adapter) == ("tiny", None)
    for asked, owner in (("prod", "other"), (name, "other"), ("none", OWNER), ("", OWNER), ("../x", OWNER)):
        with pytest.raises(Refusal, match="does not exist"):
            service.catalogue.resolve(asked, owner)


def test_the_home_can_be_moved(service: Service, tmp_path: Path) -> None:
    name = tuned(service)
    service.database.close()
    service.home.path.rename(tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / "again")
    from luthier.jobs.service.service import open_service

    moved = open_service(tmp_path / "again", service.settings)
    adapter = moved.catalogue.resolve(name, OWNER).adapter
    assert adapter and adapter.is_relative_to(tmp_path / "again") and adapter.is_dir()


def test_a_base_that_is_not_offered_any_more(service: Service) -> None:
    name = tuned(service)
    service.catalogue.settings = service.settings.model_copy(update={"bases": {}})
    with pytest.raises(Refusal, match="not offered any more"):
        service.catalogue.resolve(name, OWNER)


def test_deleting_a_model_takes_its_weights(service: Service) -> None:
    name = tuned(service)
    folder = service.catalogue.resolve(name, OWNER).adapter
    with pytest.raises(Refusal, match="does not exist"):
        service.catalogue.delete(name, "other")
    service.deployments.put("prod", name, OWNER)
    with pytest.raises(Refusal, match="deployed as 'prod'") as error:
        service.catalogue.delete(name, OWNER)
    assert error.value.status == 409 and folder and folder.exists()
    service.deployments.delete("prod", OWNER)
    service.catalogue.delete(name, OWNER)
    assert not folder.exists() and [model.id for model in service.catalogue.list(OWNER)] == ["tiny"]
    for base in ("tiny", "gpt-4o-mini-2024-07-18"):
        with pytest.raises(Refusal, match="only tuned models"):
            service.catalogue.delete(base, OWNER)


def test_checkpoints_are_models_and_can_be_shared(service: Service) -> None:
    job = new_job(service)
    names = [add(service, job, step) for step in (10, 20, 30)]
    page = service.tuning.checkpoints(job.id, OWNER, limit=2)
    assert [checkpoint.model for checkpoint in page.data] == names[:0:-1] and page.has_more
    rest = service.tuning.checkpoints(job.id, OWNER, after=page.data[-1].id)
    assert [checkpoint.step for checkpoint in rest.data] == [10]

    given = service.tuning.permit(names[0], ["a", "b"], OWNER)
    again = service.tuning.permit(names[0], ["b", "c"], OWNER)
    assert given[1] == again[0] and [one.project_id for one in again] == ["b", "c"]
    assert service.catalogue.resolve(names[0], "a").name == names[0]
    with pytest.raises(Refusal):
        service.catalogue.resolve(names[1], "a")
    with pytest.raises(Refusal):
        service.catalogue.delete(names[0], "a")

    def listed(**how: object) -> list[str]:
        return [one.project_id for one in service.tuning.permissions(names[0], OWNER, **how).data]

    assert listed() == ["c", "b", "a"] and listed(order="ascending") == ["a", "b", "c"]
    assert listed(project_id="b") == ["b"] and listed(limit=1, after=again[1].id) == ["b"]
    service.tuning.forbid(names[0], given[0].id, OWNER)
    with pytest.raises(Refusal):
        service.catalogue.resolve(names[0], "a")
    for act in (
        lambda: service.tuning.permissions(names[0], "other"),
        lambda: service.tuning.permit("ft:none", ["a"], OWNER),
        lambda: service.tuning.forbid(names[0], given[0].id, OWNER),
    ):
        with pytest.raises(Refusal, match="No such"):
            act()
    service.catalogue.delete(names[0], OWNER)
    assert [checkpoint.step for checkpoint in service.tuning.checkpoints(job.id, OWNER).data] == [30, 20]


def test_deployments(service: Service) -> None:
    name = tuned(service)
    first = service.deployments.put("prod", "tiny", OWNER, {"name": "standard"})
    assert service.deployments.put("prod", name, OWNER).model == name and first.sku == {"name": "standard"}
    service.deployments.put("test", "prod", OWNER)
    assert [(one.id, one.model) for one in service.deployments.list(OWNER)] == [("prod", name), ("test", name)]
    assert service.deployments.list("other") == []
    for bad in ("", "../x", "a/b", "x" * 65, "-a"):
        with pytest.raises(Refusal, match="deployment's name"):
            service.deployments.put(bad, "tiny", OWNER)
    with pytest.raises(Refusal, match="does not exist"):
        service.deployments.put("prod", "none", OWNER)
    service.deployments.delete("prod", OWNER)
    for act in (service.deployments.get, service.deployments.delete):
        with pytest.raises(Refusal) as error:
            act("prod", OWNER)
        assert (error.value.status, error.value.error_code) == (404, "DeploymentNotFound")
