"""A small service in a folder of its own, rows for it, and waiting."""

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from luthier.jobs.service.records import FileRecord, JobRecord
from luthier.jobs.service.service import Service, open_service
from luthier.jobs.service.settings import ServiceSettings
from luthier.jobs.service.tuning import NewJob

OWNER = "default"
FAKE = (sys.executable, "-P", str(Path(__file__).with_name("fake_worker.py")))
TRAIN = {"threads": 1, "precision": "fp32", "micro_batch_tokens": 4096, "checkpoint_every": 2, "adapter": {"r": 2}}
TRAIN["adapter"] = {"name": "lora", "r": 2}


def settings_of(base: str | Path = "tiny", **more: object) -> ServiceSettings:
    """Return settings that offer one base under the name `tiny`."""
    values = {"bases": {"tiny": str(base)}, "aliases": {"gpt-4o-mini-2024-07-18": "tiny"}, "train": TRAIN, **more}
    return ServiceSettings.model_validate(values)


def service_of(folder: Path, *, fake: bool = True, **more: object) -> Service:
    """Open a service; with `fake` its workers do what a job's suffix says, without torch."""
    service = open_service(folder / "home", settings_of(**more))
    if fake:
        service.supervisor.command = FAKE
    return service


def chat_row(number: int) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": f"what is {number} times seven"},
            {"role": "assistant", "content": f"it is {number * 7}"},
        ]
    }


def lines_of(rows: list[object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def chat_lines(count: int = 12, *, first: int = 0) -> bytes:
    return lines_of([chat_row(number) for number in range(first, first + count)])


def put(service: Service, data: bytes, *, owner: str = OWNER, purpose: str = "fine-tune") -> FileRecord:
    return service.files.create(io.BytesIO(data), filename="rows.jsonl", purpose=purpose, owner=owner)


def new_job(service: Service, data: bytes | None = None, **more: object) -> JobRecord:
    file = put(service, chat_lines() if data is None else data)
    return service.tuning.create(NewJob.model_validate({"model": "tiny", "training_file": file.id, **more}), OWNER)


def wait_for(what: Callable[[], object], *, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def state(service: Service, job: JobRecord) -> str:
    return service.tuning.get(job.id, OWNER).status


def wait_until(service: Service, job: JobRecord, *states: str, seconds: float = 120.0) -> JobRecord:
    wait_for(lambda: state(service, job) in states, seconds=seconds)
    return service.tuning.get(job.id, OWNER)


def messages(service: Service, job: JobRecord) -> list[str]:
    """Return what was told of a job, oldest first."""
    return [event.message for event in service.tuning.events(job.id, OWNER, limit=10_000).data][::-1]
