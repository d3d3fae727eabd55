"""The events of a job: the hosted service's texts, each told once however often the work is repeated."""

import time
from typing import Any

from luthier.jobs.service.database import Database, as_page, as_record, check_limit
from luthier.jobs.service.ids import derived_id
from luthier.jobs.service.records import EventRecord, JobError, JobRecord, Level, Page
from luthier.jobs.service.refusal import not_found

METRICS = {
    "loss": "train_loss",
    "accuracy": "train_mean_token_accuracy",
    "validation_loss": "valid_loss",
    "validation_accuracy": "valid_mean_token_accuracy",
    "full_validation_loss": "full_valid_loss",
    "full_validation_accuracy": "full_valid_mean_token_accuracy",
}
"""The training room's words, and the hosted service's."""
SHOWN = {"train_loss": "training loss", "valid_loss": "validation loss", "full_valid_loss": "full validation loss"}


class Events:
    """The events of all jobs; a key is a pure function of what happened, so that a repeat changes nothing."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(
        self,
        job_id: str,
        key: str,
        message: str,
        *,
        level: Level = "info",
        data: dict[str, Any] | None = None,
    ) -> None:
        """Tell that something happened, unless it was told before; with data it is a metrics event."""
        self.database.query(
            "add_event",
            id=derived_id("ftevent-", job_id, key),
            job_id=job_id,
            key=key,
            created_at=int(time.time()),
            level=level,
            message=message,
            type="message" if data is None else "metrics",
            data=data,
        )

    def page(self, job_id: str, *, limit: int = 20, after: str | None = None) -> Page[EventRecord]:
        """Return a job's events, newest first."""
        if after is not None and self.database.one("event", job_id=job_id, id=after) is None:
            raise not_found("FineTuningJobEvent", after, param="after")
        rows = self.database.query("events", job_id=job_id, limit=check_limit(limit), after=after)
        return as_page(rows, limit, lambda row: as_record(EventRecord, row))

    # What happens to a job, in the order of its life.

    def created(self, job: JobRecord) -> None:
        """The job is there."""
        self.add(job.id, "created", f"Created fine-tuning job: {job.id}")

    def validating(self, job: JobRecord) -> None:
        """Its files are being read."""
        second = f" and validation file: {job.validation_file}" if job.validation_file else ""
        self.add(job.id, "validating", f"Validating training file: {job.training_file}{second}")

    def validated(self, job: JobRecord) -> None:
        """Its files are good."""
        self.add(job.id, "validated", "Files validated, moving job to queued state")

    def started(self, job: JobRecord) -> None:
        """A worker has it; told the first time only."""
        self.add(job.id, "started", "Fine-tuning job started")

    def step(self, job_id: str, data: dict[str, Any]) -> None:
        """One optimiser step was done; `data` is in the hosted service's words."""
        losses = ", ".join(f"{word}={data[name]:.2f}" for name, word in SHOWN.items() if name in data)
        step = data["step"]
        self.add(job_id, f"step-{step}", f"Step {step}/{data['total_steps']}: {losses}", data=data)

    def checkpoint(self, job_id: str, step: int) -> None:
        """Weights were kept and can be asked."""
        self.add(job_id, f"checkpoint-{step}", f"Checkpoint created at step {step}")

    def model(self, job_id: str, model: str) -> None:
        """The tuned model can be asked."""
        self.add(job_id, "model", f"New fine-tuned model created: {model}")

    def succeeded(self, job_id: str) -> None:
        """The job is done."""
        self.add(job_id, "succeeded", "The job has successfully completed")

    def failed(self, job_id: str, error: JobError) -> None:
        """The job cannot be done."""
        self.add(job_id, "failed", error.message, level="error")

    def cancelled(self, job_id: str) -> None:
        """The client does not want it any more."""
        self.add(job_id, "cancelled", "The job was cancelled by the user")

    def pausing(self, job: JobRecord) -> None:
        """The client wants it to wait; the step under way ends first."""
        self.add(job.id, f"pausing-{job.attempt}", "Pausing the job after the current step")

    def paused(self, job: JobRecord) -> None:
        """It waits."""
        self.add(job.id, f"paused-{job.attempt}", "The job has been paused")

    def resumed(self, job: JobRecord) -> None:
        """It is in the queue again."""
        self.add(job.id, f"resumed-{job.attempt}", "The job has been resumed, moving job to queued state")

    def requeued(self, job: JobRecord, why: str) -> None:
        """Its worker is gone, and another one goes on with it."""
        self.add(job.id, f"requeued-{job.attempt}", f"{why}; the job goes on from its last checkpoint", level="warn")


def step_data(measured: dict[str, Any]) -> dict[str, Any]:
    """Return what the training room measured in a step, in the hosted service's words."""
    named = {theirs: measured[ours] for ours, theirs in METRICS.items() if measured.get(ours) is not None}
    return {"step": measured["step"], "total_steps": measured["steps"], **named}
