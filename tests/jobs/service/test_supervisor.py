"""Real processes, without torch: what they do is said in `fake_worker.py`."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.jobs.service.fake_worker import STEPS
from tests.jobs.service.made import OWNER, chat_lines, messages, new_job, put, service_of, state, wait_for, wait_until

from luthier.core.errors import ResourceError
from luthier.jobs.service import examine
from luthier.jobs.service.records import JobRecord
from luthier.jobs.service.service import Service

LEASE_S = 2.0


@contextlib.contextmanager
def running(folder: Path, **more: object) -> Iterator[Service]:
    service = service_of(folder, lease_s=LEASE_S, **more)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def worker_of(service: Service, job: JobRecord) -> int:
    wait_for(lambda: job.id in service.supervisor.workers)
    return service.supervisor.workers[job.id].process.pid


def steps_told(service: Service, job: JobRecord) -> list[int]:
    events = service.tuning.events(job.id, OWNER, limit=1000).data[::-1]
    return [event.data["step"] for event in events if event.data]


def test_a_job_from_beginning_to_end(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        job = new_job(service, suffix="steps")
        done = wait_until(service, job, "succeeded", "failed")
        name = f"ft:tiny:luthier:steps:{job.id[-8:]}"
        assert (done.status, done.fine_tuned_model, done.trained_tokens, done.attempt) == ("succeeded", name, 300, 1)
        assert done.finished_at and done.estimated_finish is None
        told = messages(service, job)
        assert told[:4] == [
            f"Created fine-tuning job: {job.id}",
            f"Validating training file: {job.training_file}",
            "Files validated, moving job to queued state",
            "Fine-tuning job started",
        ]
        assert told[-2:] == [f"New fine-tuned model created: {name}", "The job has successfully completed"]
        assert steps_told(service, job) == list(range(1, STEPS + 1))
        file = service.files.get(done.result_files[0], OWNER)
        assert (file.purpose, file.filename) == ("fine-tune-results", "step_metrics.csv")
        table = service.files.path(file.id, OWNER).read_text().splitlines()
        assert table[:2] == ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy", "1,1.0,,,"]
        assert len(table) == STEPS + 1
        assert service.catalogue.resolve(name, OWNER).adapter
        assert service.supervisor.is_alive


def test_bad_files_fail_their_job_and_leave_the_queue_running(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        bad, few = new_job(service, data=b'{"messages": 1}\n'), new_job(service, data=chat_lines(3))
        good = new_job(service)
        failed = wait_until(service, bad, "failed")
        assert failed.error and failed.error.code == "invalid_training_file" and failed.finished_at
        assert messages(service, bad)[-1] == failed.error.message
        code = wait_until(service, few, "failed").error
        assert code and code.code == "invalid_n_examples"
        assert wait_until(service, good, "succeeded").attempt == 1


@pytest.mark.parametrize(
    ("how", "code", "attempts"),
    [
        ("memory", "out_of_memory", 3),
        ("exit", "server_error", 3),
        ("hang", "server_error", 3),
        ("full", "disk_full", 1),
    ],
)
def test_a_worker_that_gets_nowhere(tmp_path: Path, how: str, code: str, attempts: int) -> None:
    with running(tmp_path) as service:
        bad, good = new_job(service, suffix=how), new_job(service)
        failed = wait_until(service, bad, "failed")
        assert failed.error and (failed.error.code, failed.attempt) == (code, attempts)
        assert str(tmp_path) not in failed.error.message
        assert wait_until(service, good, "succeeded").attempt == 1


def test_a_worker_that_stumbles_but_gets_on(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        job = new_job(service, suffix="stumble")
        done = wait_until(service, job, "succeeded", "failed")
        assert done.status == "succeeded" and done.attempt > 3
        assert steps_told(service, job) == list(range(1, STEPS + 1))


def test_cancelling_ends_the_process_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        job = new_job(service, suffix="slow")
        process = worker_of(service, job)
        wait_for(lambda: steps_told(service, job))
        assert service.tuning.cancel(job.id, OWNER).status == "cancelled"
        wait_for(lambda: not psutil.pid_exists(process), seconds=5)
        told = steps_told(service, job)
        time.sleep(0.5)
        assert steps_told(service, job) == told and messages(service, job)[-1] == "The job was cancelled by the user"
        assert wait_until(service, new_job(service), "succeeded")


def test_pause_and_resume(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        job = new_job(service, suffix="slow")
        wait_for(lambda: steps_told(service, job))
        assert service.tuning.pause(job.id, OWNER).status == "pausing"
        paused = wait_until(service, job, "paused", seconds=20)
        told = steps_told(service, job)
        assert told[-1] < STEPS and paused.finished_at is None
        assert wait_until(service, new_job(service), "succeeded")
        assert state(service, job) == "paused" and steps_told(service, job) == told
        assert service.tuning.resume(job.id, OWNER).status == "queued"
        assert wait_until(service, job, "succeeded").attempt == 2
        assert steps_told(service, job) == list(range(1, STEPS + 1))
        assert [key for key in messages(service, job) if "paus" in key.lower() or "resumed" in key] == [
            "Pausing the job after the current step",
            "The job has been paused",
            "The job has been resumed, moving job to queued state",
        ]


def test_as_many_jobs_at_once_as_set(tmp_path: Path) -> None:
    with running(tmp_path, jobs_at_once=2) as service:
        jobs = [new_job(service, suffix="slow") for _ in range(3)]
        wait_for(lambda: len(service.supervisor.workers) == 2)
        time.sleep(0.5)
        assert [state(service, job) for job in jobs] == ["running", "running", "queued"]
        for job in jobs:
            service.tuning.cancel(job.id, OWNER)


def test_workers_die_with_the_server_and_their_jobs_go_on(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        job = new_job(service, suffix="slow")
        process = worker_of(service, job)
        wait_for(lambda: len(steps_told(service, job)) > 2)
        # As at the server's death: its end of the pipe is gone.
        pipe = service.supervisor.workers[job.id].process.stdin
        assert pipe is not None
        pipe.close()
        wait_for(lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == "zombie", seconds=5)
        wait_for(lambda: service.tuning.get(job.id, OWNER).attempt == 2)
    assert state(service, job) == "running"
    with running(tmp_path) as service:
        assert wait_until(service, job, "succeeded").attempt == 3
        assert steps_told(service, job) == list(range(1, STEPS + 1))


def test_one_server_to_a_home(tmp_path: Path) -> None:
    with running(tmp_path), pytest.raises(ResourceError, match="another server"):
        service_of(tmp_path).start()


def test_what_a_crash_left_is_swept_at_the_start(tmp_path: Path) -> None:
    service = service_of(tmp_path)
    job = new_job(service)
    (service.home.jobs / ("ftjob-" + "a" * 24)).mkdir()
    (service.home.files / ".file-left").write_text("half")
    (service.home.uploads / ("upload_" + "a" * 24)).mkdir()
    with running(tmp_path) as service:
        wait_until(service, job, "succeeded")
        assert [path.name for path in service.home.jobs.iterdir()] == [job.id]
        assert not list(service.home.uploads.iterdir()) and not list(service.home.files.glob(".*"))


def test_expired_files_are_removed_while_the_service_runs(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        file = put(service, b"x", purpose="batch")
        with service.database.transaction() as connection:
            connection.execute("update files set expires_at = 1 where id = ?", (file.id,))
        service.supervisor._next_sweep = 0.0
        wait_for(lambda: not (service.home.files / file.id).exists(), seconds=10)
        assert service.database.query("file_ids") == []


def test_the_supervisor_outlives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as service:
        real, failures = service.queue.claim, []

        def claim() -> JobRecord | None:
            if len(failures) < 3:
                failures.append(1)
                raise ResourceError("the disk is full")
            return real()

        monkeypatch.setattr(service.queue, "claim", claim)
        assert wait_until(service, new_job(service), "succeeded").attempt == 1
        assert len(failures) == 3 and service.supervisor.is_alive


def test_reading_a_large_file_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    with running(tmp_path) as service:
        job = new_job(service, suffix="slow")
        wait_until(service, job, "running")
        real = examine.read_jsonl

        def slow(path: Path, name: str) -> Iterator[object]:
            gate.wait(60)
            return real(path, name)

        monkeypatch.setattr(examine, "read_jsonl", slow)
        large = new_job(service)
        service.tuning.cancel(job.id, OWNER)
        wait_for(lambda: not service.supervisor.workers, seconds=10)
        assert state(service, large) == "validating_files"
        gate.set()
        assert wait_until(service, large, "succeeded")


def test_a_killed_worker_is_followed_by_another(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        job = new_job(service, suffix="slow")
        for turn in range(2):
            wait_for(lambda turn=turn: len(steps_told(service, job)) >= 2 * turn + 2)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker_of(service, job), signal.SIGKILL)
            wait_for(lambda turn=turn: service.tuning.get(job.id, OWNER).attempt >= turn + 2)
        done = wait_until(service, job, "succeeded", "failed")
        assert done.status == "succeeded" and steps_told(service, job) == list(range(1, STEPS + 1))
