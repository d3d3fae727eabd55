import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.jobs.service.made import OWNER, new_job, service_of

from luthier.jobs.service.events import Events, step_data
from luthier.jobs.service.queue import CRASHES, FencedError, Queue
from luthier.jobs.service.records import ENDED, JobError, JobRecord
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service

WRONG = JobError(code="c", message="m", param="training_file")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path)


def queued(service: Service) -> JobRecord:
    job = new_job(service)
    service.queue.admit(job.id)
    return job


def keys(service: Service, job: JobRecord) -> list[str]:
    return [event.key for event in service.tuning.events(job.id, OWNER, limit=1000).data][::-1]


def test_the_oldest_is_claimed_first_and_only_once(service: Service) -> None:
    jobs = [queued(service) for _ in range(3)]
    claimed = [service.queue.claim() for _ in range(4)]
    assert [job and job.id for job in claimed] == [*(job.id for job in jobs), None]
    assert all(job.status == "running" and job.attempt == 1 for job in claimed if job)
    assert keys(service, jobs[0]) == ["created", "validated", "started"]


def test_a_worker_is_fenced_off_when_its_attempt_is_over(service: Service) -> None:
    job = queued(service)
    first = service.queue.claim()
    service.queue.hold(job.id, 1)
    service.queue.crashed(job.id, 1, "why", WRONG)
    second = service.queue.claim()
    assert first and second and (first.attempt, second.attempt) == (1, 2)
    with pytest.raises(FencedError), service.queue.held(job.id, 1):
        service.events.add(job.id, "late", "late")
    with pytest.raises(FencedError):
        service.queue.succeed(job.id, 1)
    assert not service.queue.fail(job.id, WRONG, 1) and not service.queue.paused(job.id, 1)
    service.queue.hold(job.id, 2)
    assert "late" not in keys(service, job)


def test_crashes_without_progress_end_a_job_and_others_do_not(service: Service) -> None:
    job = queued(service)
    for step in range(1, 10):
        claimed = service.queue.claim()
        assert claimed is not None
        service.database.query("told_step", id=job.id, step=step, estimated_finish=None)
        service.queue.crashed(job.id, claimed.attempt, "why", WRONG)
    for turn in range(CRASHES - 1):
        assert service.tuning.get(job.id, OWNER).status == "queued", turn
        claimed = service.queue.claim()
        assert claimed is not None
        service.queue.crashed(job.id, claimed.attempt, "why", WRONG)
    ended = service.tuning.get(job.id, OWNER)
    assert (ended.status, ended.error, ended.attempt) == ("failed", WRONG, 9 + CRASHES - 1) and ended.finished_at
    assert keys(service, job)[-1] == "failed"


def test_a_restart_is_no_crash(service: Service) -> None:
    job = queued(service)
    for _ in range(3 * CRASHES):
        assert service.queue.claim()
        service.queue.recover()
    assert service.tuning.get(job.id, OWNER).status == "queued"


def test_a_repeated_event_is_told_once(service: Service) -> None:
    job = new_job(service)
    for loss in (0.5, 0.4):
        service.events.step(job.id, {"step": 1, "total_steps": 2, "train_loss": loss})
    (event,) = (e for e in service.tuning.events(job.id, OWNER).data if e.key == "step-1")
    assert event.data == {"step": 1, "total_steps": 2, "train_loss": 0.5} and event.type == "metrics"


def test_steps_are_told_in_the_hosted_service_s_words(service: Service) -> None:
    measured = {
        "step": 300, "steps": 300, "loss": 0.154, "accuracy": 0.9, "validation_loss": 0.266, "validation_accuracy": 0.8,
        "full_validation_loss": 0.4, "full_validation_accuracy": 0.7, "learning_rate": 1.0, "seconds_left": 0.0,
    }  # fmt: skip
    data = step_data(measured)
    assert data == {
        "step": 300, "total_steps": 300, "train_loss": 0.154, "train_mean_token_accuracy": 0.9, "valid_loss": 0.266,
        "valid_mean_token_accuracy": 0.8, "full_valid_loss": 0.4, "full_valid_mean_token_accuracy": 0.7,
    }  # fmt: skip
    job = new_job(service)
    service.events.step(job.id, data)
    told = service.tuning.events(job.id, OWNER).data[0].message
    assert told == "Step 300/300: training loss=0.15, validation loss=0.27, full validation loss=0.40"


class Life(RuleBasedStateMachine):
    """A job's life against a model: clients, a worker, crashes and restarts in any order."""

    service: Service

    def __init__(self) -> None:
        super().__init__()
        self.job = new_job(self.service)
        self.status, self.attempt, self.done, self.crashes, self.crash_step = "validating_files", 0, 0, 0, -1
        self.told = {"created"}

    @property
    def queue(self) -> Queue:
        return self.service.queue

    @property
    def events(self) -> Events:
        return self.service.events

    def asked(self, act: str, allowed: tuple[str, ...], to: str, key: str) -> None:
        before = self.status
        if before not in allowed:
            with pytest.raises(Refusal):
                getattr(self.service.tuning, act)(self.job.id, OWNER)
            return
        assert getattr(self.service.tuning, act)(self.job.id, OWNER).status == to
        self.status = to
        self.told.add(key)

    @rule()
    def cancel(self) -> None:
        if self.done > 3:
            live = ("validating_files", "queued", "running", "pausing", "paused")
            self.asked("cancel", live, "cancelled", "cancelled")

    @rule()
    def pause(self) -> None:
        self.asked("pause", ("running",), "pausing", f"pausing-{self.attempt}")

    @rule()
    def resume(self) -> None:
        self.asked("resume", ("paused",), "queued", f"resumed-{self.attempt}")

    @rule(good=st.sampled_from([True, True, True, False]))
    def examine(self, good: bool) -> None:
        job = self.queue.unchecked()
        assert (job is not None) == (self.status == "validating_files")
        if job is None:
            return
        self.told.add("validating")
        if good:
            self.queue.admit(job.id)
            self.status = "queued"
            self.told.add("validated")
        else:
            assert self.queue.fail(job.id, WRONG)
            self.status = "failed"
            self.told.add("failed")

    @rule()
    def claim(self) -> None:
        claimed = self.queue.claim()
        assert (claimed is not None) == (self.status == "queued")
        if claimed:
            self.attempt += 1
            assert claimed.attempt == self.attempt
            self.status = "running"
            self.told.add("started")

    @rule(back=st.integers(0, 2), steps=st.integers(1, 4))
    def work(self, back: int, steps: int) -> None:
        """Steps are told; after a crash some are told again."""
        first = max(0, self.done - back)
        for step in range(first + 1, first + steps + 1):
            data = {"step": step, "total_steps": 99, "train_loss": 1.0}
            if self.status not in ("running", "pausing"):
                with pytest.raises(FencedError), self.queue.held(self.job.id, self.attempt):
                    self.events.step(self.job.id, data)
                continue
            with self.queue.held(self.job.id, self.attempt):
                self.service.database.query("told_step", id=self.job.id, step=step, estimated_finish=None)
                self.events.step(self.job.id, data)
            self.done = max(self.done, step)
            self.told.add(f"step-{step}")

    @precondition(lambda self: self.attempt > 1)
    @rule()
    def late_worker(self) -> None:
        with pytest.raises(FencedError):
            self.queue.hold(self.job.id, self.attempt - 1)
        self.queue.crashed(self.job.id, self.attempt - 1, "late", WRONG)
        assert not self.queue.fail(self.job.id, WRONG, self.attempt - 1)

    @rule()
    def stopped_as_asked(self) -> None:
        was_pausing = self.status == "pausing"
        assert self.queue.paused(self.job.id, self.attempt) == was_pausing
        if was_pausing:
            self.status = "paused"
            self.told.add(f"paused-{self.attempt}")

    @rule()
    def crash(self) -> None:
        self.queue.crashed(self.job.id, self.attempt, "why", WRONG)
        if self.status == "pausing":
            self.status = "paused"
            self.told.add(f"paused-{self.attempt}")
        elif self.status == "running":
            self.crashes = 1 if self.done > self.crash_step else self.crashes + 1
            self.crash_step = self.done
            failed = self.crashes >= CRASHES
            self.status = "failed" if failed else "queued"
            self.told.add("failed" if failed else f"requeued-{self.attempt}")

    @rule()
    def restart(self) -> None:
        self.queue.recover()
        if self.status == "pausing":
            self.status = "paused"
            self.told.add(f"paused-{self.attempt}")
        elif self.status == "running":
            self.status = "queued"
            self.told.add(f"requeued-{self.attempt}")

    @rule()
    def succeed(self) -> None:
        if self.status in ("running", "pausing") and self.done > 3:
            with self.queue.held(self.job.id, self.attempt):
                self.events.succeeded(self.job.id)
                self.queue.succeed(self.job.id, self.attempt)
            self.status = "succeeded"
            self.told.add("succeeded")

    @invariant()
    def agrees(self) -> None:
        job = self.service.tuning.get(self.job.id, OWNER)
        assert (job.status, job.attempt) == (self.status, self.attempt)
        assert (job.finished_at is not None) == (self.status in ENDED)
        assert (job.error is not None) == (self.status == "failed")
        told = keys(self.service, self.job)
        assert sorted(told) == sorted(self.told)
        row = self.service.database.query("jobs_at_work")
        assert [r["id"] for r in row] == ([self.job.id] if self.status in ("running", "pausing") else [])
        assert all(r["lease_until"] > time.monotonic() for r in row)

    def teardown(self) -> None:
        if self.status not in ENDED:
            self.queue.cancel(self.job.id)


def test_a_job_s_life_is_as_modelled(tmp_path: Path) -> None:
    Life.service = service_of(tmp_path)
    runs = settings(max_examples=40, stateful_step_count=30, deadline=None)
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Life, settings=runs)
    assert len(Life.service.database.query("job_ids")) >= 40
