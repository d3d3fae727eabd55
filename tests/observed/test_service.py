"""Every setting of a service is seen in what it offers, trains, runs at once, or asks of another server."""

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.service.made import OWNER, new_job, settings_of
from tests.jobs.service.test_examine import job_of
from tests.observed.seen import Cases, unseen
from tests.serve.engines.test_remote import IDS, choice, plainly, server, streams
from tests.serve.made import ask

from luthier.core.errors import ModelError
from luthier.core.runfolder import RunFolder
from luthier.jobs.service.inference import Inference, open_base
from luthier.jobs.service.recipes import recipe_of
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service, open_service
from luthier.jobs.service.settings import Remote, ServiceSettings
from luthier.model.render import Renderer
from luthier.model.tiny import save_tiny
from luthier.serve.spec import ServeSpec

REMOTE = {"url": "http://127.0.0.1:1/v1", "model": "m", "tokenizer": "tiny"}
SLEEPING = ("/bin/sh", "-c", "exec sleep 60")
"""A worker that gives no sign of life."""
NAMES = ("tiny", "small", "tones", "far", "gpt")
CASES: Cases = {
    ServiceSettings: {
        "bases": {"tiny": "tiny", "small": "small"},
        "exports": {"tones": "tones"},
        "remotes": {"far": REMOTE},
        "aliases": {"gpt": "tiny"},
        "organization": "me",
        "jobs_at_once": 2,
        "lease_s": 0.5,
        "serve": {"rows": 3},
        "train": {"warmup": 0.5},
    },
    Remote: {"url": "http://127.0.0.1:{port}/other", "model": "n", "tokenizer": "other", "key_env": "FAR_KEY"},
}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[ServiceSettings], Service]:
    number = itertools.count()
    return lambda settings: open_service(tmp_path / f"home{next(number)}", settings)


def names_of(service: Service) -> Any:
    """Return what is on offer, what runs under each name, and what a tuned model is called."""
    resolved = {}
    for name in NAMES:
        try:
            resolved[name] = service.catalogue.resolve(name, OWNER)
        except Refusal as refused:
            resolved[name] = refused.status
    tuned = service.catalogue.name_of(new_job(service)).rpartition(":")[0]
    return [model.id for model in service.catalogue.list(OWNER)], resolved, tuned


def workers_of(service: Service) -> Any:
    """Return how many workers begin at once, and whether one that is silent for a second is ended."""
    service.supervisor.command = SLEEPING
    for job in [new_job(service) for _ in range(3)]:
        service.queue.admit(job.id)
    service.supervisor.tick()
    begun = len(service.supervisor.workers)
    time.sleep(0.7)
    service.supervisor.tick()
    ended = [worker.killed_because is not None for worker in service.supervisor.workers.values()]
    for worker in service.supervisor.workers.values():
        worker.process.kill()
        worker.process.wait()
    return begun, ended


def engine_of(service: Service) -> Any:
    """Return what the engine is told of how much it may take."""
    asked: list[ServeSpec] = []

    def opens(base_model: Any, spec: ServeSpec, render: Renderer) -> Any:
        asked.append(spec)
        raise ModelError("this test needs no model")

    inference = Inference(service, service.settings, open_base=opens)
    with pytest.raises(Refusal):
        asyncio.run(inference.take("tiny", OWNER))
    inference.close()
    return asked


OBSERVERS: dict[Callable[[Service], Any], tuple[str, ...]] = {
    names_of: ("bases", "exports", "remotes", "aliases", "organization"),
    workers_of: ("jobs_at_once", "lease_s"),
    engine_of: ("serve",),
}


def test_every_setting_of_a_service_is_seen(opened, tmp_path: Path) -> None:
    usual = settings_of().model_dump() | {"aliases": {}}
    changes = dict(CASES[ServiceSettings])
    for observe, names in OBSERVERS.items():
        some = {name: changes.pop(name) for name in names}
        assert unseen(ServiceSettings, some, lambda settings, see=observe: see(opened(settings)), **usual) == []

    def trained(settings: ServiceSettings) -> Any:
        return recipe_of(job_of(), RunFolder(tmp_path), settings).train.warmup

    (tmp_path / "training.jsonl").write_text("{}\n")
    assert list(changes) == ["train"]
    assert unseen(ServiceSettings, changes, trained, **usual) == []


def test_every_field_of_another_servers_model_is_seen_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", "secret")
    tiny, other = (save_tiny(tmp_path / name, "llama") for name in ("tiny", "other"))
    template = other / "chat_template.jinja"
    template.write_text(template.read_text().replace("You are tiny.", "You are small."))
    with server(streams(choice("a hen", "stop"))) as made:

        def heard_from(remote: Remote) -> Any:
            made.heard.clear()
            loaded = open_base(remote, ServeSpec(threads=1), Renderer())
            ask(loaded.engine, IDS, plainly()).wait()
            loaded.engine.close()
            (path, authorization, body), *_ = made.heard
            rendered = loaded.engine.render([{"role": "user", "content": "hen"}])
            return path, authorization, body["model"], rendered

        url = f"http://127.0.0.1:{made.server_port}/v1"
        changes = CASES[Remote] | {"url": CASES[Remote]["url"].format(port=made.server_port), "tokenizer": str(other)}
        assert unseen(Remote, changes, heard_from, url=url, model="m", tokenizer=str(tiny)) == []
