"""The queue: which state a job is in, who may change it, and what is told when it does."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from luthier.jobs.service.database import Database, as_record
from luthier.jobs.service.events import Events
from luthier.jobs.service.records import ENDED, JobError, JobRecord, JobStatus
from luthier.jobs.service.refusal import Refusal

BEFORE: dict[JobStatus, tuple[JobStatus, ...]] = {
    "queued": ("validating_files", "running", "paused"),
    "pausing": ("running",),
    "paused": ("pausing",),
    "succeeded": ("running", "pausing"),
    "failed": ("validating_files", "queued", "running", "pausing"),
    "cancelled": ("validating_files", "queued", "running", "pausing", "paused"),
}
"""The states from which a job can come into each state; `running` comes from a claim alone."""
CRASHES = 3
"""Crashes in a row without a new step after which a job fails."""


class FencedError(Exception):
    """The job is no longer this worker's: it was cancelled, or another attempt has it."""


class Queue:
    """All jobs' states; each change is one transaction, together with its event."""

    def __init__(self, database: Database, events: Events, *, lease_s: float) -> None:
        self.database = database
        self.events = events
        self.lease_s = lease_s

    def add(self, job: JobRecord, owner: str) -> None:
        """Put a new job in line for its files to be read."""
        values = job.model_dump(
            include={
                "id", "created_at", "model", "base", "method", "old_style", "status", "training_file",
                "validation_file", "suffix", "seed", "metadata", "integrations", "hyperparameters",
            }
        )  # fmt: skip
        with self.database.transaction():
            self.database.query("add_job", owner=owner, **values)
            self.events.created(job)

    def get(self, id: str) -> JobRecord | None:
        """Return a job, whosever it is."""
        row = self.database.one("job", id=id)
        return None if row is None else as_record(JobRecord, row)

    def unchecked(self) -> JobRecord | None:
        """Return the oldest job whose files are to be read, and tell that this begins."""
        row = self.database.one("unchecked_job")
        if row is None:
            return None
        job = as_record(JobRecord, row)
        self.events.validating(job)
        return job

    def admit(self, id: str) -> None:
        """The files are good: the job waits for a worker."""
        with self.database.transaction():
            job = self._move(id, "queued", among=("validating_files",))
            if job is not None:
                self.events.validated(job)

    def claim(self) -> JobRecord | None:
        """Give the oldest waiting job to a new worker, under a new attempt."""
        with self.database.transaction():
            row = self.database.one("claim_job", lease_until=self._lease())
            job = None if row is None else as_record(JobRecord, row)
            if job is not None:
                self.events.started(job)
            return job

    def hold(self, id: str, attempt: int) -> None:
        """Renew the lease; raise FencedError where the job is no longer this attempt's."""
        if self.database.one("hold_job", id=id, attempt=attempt, lease_until=self._lease()) is None:
            raise FencedError

    @contextlib.contextmanager
    def held(self, id: str, attempt: int) -> Iterator[None]:
        """A transaction in which the job is this attempt's, from its first statement to its last."""
        with self.database.transaction():
            self.hold(id, attempt)
            yield

    def fail(self, id: str, error: JobError, attempt: int | None = None) -> bool:
        """End a job with the reason; return whether it was there to end."""
        with self.database.transaction():
            now, why = int(time.time()), error.model_dump()
            job = self._move(id, "failed", attempt=attempt, finished_at=now, error=why)
            if job is not None:
                self.events.failed(id, error)
            return job is not None

    def succeed(self, id: str, attempt: int) -> None:
        """End a job well; its results are written in the same transaction."""
        if self._move(id, "succeeded", attempt=attempt, finished_at=int(time.time())) is None:
            raise FencedError

    def cancel(self, id: str) -> JobRecord:
        """End a job that nobody wants any more; its worker is stopped by the supervisor."""
        with self.database.transaction():
            job = self._asked(id, "cancelled", finished_at=int(time.time()))
            self.events.cancelled(id)
            return job

    def pause(self, id: str) -> JobRecord:
        """Ask a running job to wait."""
        with self.database.transaction():
            job = self._asked(id, "pausing")
            self.events.pausing(job)
            return job

    def paused(self, id: str, attempt: int) -> bool:
        """The worker has stopped as asked; return whether it had been asked."""
        with self.database.transaction():
            job = self._move(id, "paused", attempt=attempt)
            if job is not None:
                self.events.paused(job)
            return job is not None

    def resume(self, id: str) -> JobRecord:
        """Put a paused job in line again."""
        with self.database.transaction():
            job = self._asked(id, "queued", among=("paused",))
            self.events.resumed(job)
            return job

    def crashed(self, id: str, attempt: int, why: str, error: JobError) -> None:
        """A worker is gone without a word: another one goes on, or `error` ends a job that gets no further."""
        with self.database.transaction():
            job = self.get(id)
            if job is None or job.attempt != attempt or job.status not in ("running", "pausing"):
                return
            row = self.database.one("crash_job", id=id) if job.status == "running" else None
            if row is not None and row["crashes"] >= CRASHES:
                self.fail(id, error, attempt)
            else:
                self._again(job, why)

    def recover(self) -> None:
        """Put the jobs of a server that is gone back in line."""
        with self.database.transaction():
            for row in self.at_work():
                job = self.get(row["id"])
                if job is not None:
                    self._again(job, "The service was restarted")

    def at_work(self) -> list[Any]:
        """Return id, status, attempt and lease of every job that has a worker."""
        return self.database.query("jobs_at_work")

    def _again(self, job: JobRecord, why: str) -> None:
        # A job that was to pause has stopped now, if not as gently as it was asked to.
        if job.status == "pausing":
            self.paused(job.id, job.attempt)
        elif self._move(job.id, "queued", among=("running",), attempt=job.attempt):
            self.events.requeued(job, why)

    def _asked(
        self, id: str, to: JobStatus, *, among: tuple[JobStatus, ...] = (), finished_at: int | None = None
    ) -> JobRecord:
        job = self._move(id, to, among=among, finished_at=finished_at)
        if job is None:
            now = self.get(id)
            raise _refused(id, to, now.status if now else "cancelled")
        return job

    def _move(
        self,
        id: str,
        to: JobStatus,
        *,
        among: tuple[JobStatus, ...] = (),
        attempt: int | None = None,
        finished_at: int | None = None,
        error: dict[str, Any] | None = None,
    ) -> JobRecord | None:
        values = {"status": to, "attempt": attempt, "finished_at": finished_at, "error": error}
        row = self.database.one("move_job", id=id, among=among or BEFORE[to], **values)
        return None if row is None else as_record(JobRecord, row)

    def _lease(self) -> float:
        # One clock for all processes of this machine; it stands still while the machine sleeps.
        return time.monotonic() + self.lease_s


def _refused(id: str, to: JobStatus, status: JobStatus) -> Refusal:
    if to == "cancelled":
        what = f"Job has already completed: {id}" if status in ENDED else f"Job cannot be cancelled: {id}"
    elif to == "pausing":
        what = f"Only a running job can be paused; {id} is {status}."
    else:
        what = f"Only a paused job can be resumed; {id} is {status}."
    return Refusal(what, code="invalid_job_state")
