"""What a worker tells: steps, checkpoints and results, each write only while the job is still its own."""

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from luthier.core.artifacts import Trained
from luthier.core.events import Event
from luthier.jobs.service.events import step_data
from luthier.jobs.service.files import RESULTS
from luthier.jobs.service.ids import derived_id
from luthier.jobs.service.recipes import trained_tokens
from luthier.jobs.service.records import FileRecord, Hyperparameters, JobRecord
from luthier.jobs.service.service import Service

COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""The result file's columns, and the metrics in them."""
RESULT_NAME = "step_metrics.csv"


class Reporter:
    """Hears the run's events and writes what a client sees; a job that is not this worker's any more stops it."""

    def __init__(self, service: Service, job: JobRecord) -> None:
        self.service = service
        self.job = job

    def __call__(self, event: Event) -> None:
        """Tell what concerns a client."""
        if event.kind == "warning":
            self._warn(event)
        elif event.room == "train" and event.kind == "snapshot":
            self._checkpoint(event.data)
        elif event.room == "train" and event.kind == "metrics" and event.data.get("step"):
            self._step(event.data)

    def settled(self, used: Hyperparameters) -> None:
        """Write down the numbers that the job really uses."""
        with self._ours():
            self.service.database.query("settle_job", id=self.job.id, hyperparameters=used.model_dump())

    def succeeded(self, trained: Trained, *, epochs: int) -> None:
        """Write the result file, the model and the end of the job, all in one transaction."""
        job, service = self.job, self.service
        file = self._result_file()
        name = service.catalogue.name_of(job)
        with self._ours():
            owner = service.database.query("job", id=job.id)[0]["owner"]
            service.files.add(file, owner)
            service.catalogue.add(name, trained.weights, job, owner)
            self._forget_lost_checkpoints()
            results = {"fine_tuned_model": name, "result_files": [file.id]}
            tokens = trained_tokens(trained, epochs)
            service.database.query("succeed_job", id=job.id, trained_tokens=tokens, **results)
            service.events.model(job.id, name)
            service.events.succeeded(job.id)
            service.queue.succeed(job.id, job.attempt)

    def _warn(self, event: Event) -> None:
        digest = hashlib.sha256(event.message.encode()).hexdigest()[:12]
        with self._ours():
            self.service.events.add(self.job.id, f"warning-{digest}", event.message, level="warn")

    def _step(self, measured: dict[str, Any]) -> None:
        finish = int(time.time() + measured["seconds_left"]) if "seconds_left" in measured else None
        with self._ours():
            values = {"step": measured["step"], "estimated_finish": finish}
            self.service.database.query("told_step", id=self.job.id, **values)
            self.service.events.step(self.job.id, step_data(measured))

    def _checkpoint(self, measured: dict[str, Any]) -> None:
        job, service, step = self.job, self.service, measured["step"]
        name = service.catalogue.name_of(job, step)
        metrics = step_data(measured | {"steps": 0})
        del metrics["total_steps"]
        with self._ours():
            owner = service.database.query("job", id=job.id)[0]["owner"]
            service.catalogue.add(name, Path(measured["folder"]), job, owner)
            service.database.query(
                "add_checkpoint",
                id=derived_id("ftckpt_", job.id, step),
                job_id=job.id,
                model=name,
                created_at=int(time.time()),
                step=step,
                metrics=metrics,
            )
            service.events.checkpoint(job.id, step)
            self._forget_lost_checkpoints()

    def _forget_lost_checkpoints(self) -> None:
        """Forget the checkpoints whose weights the training room has thrown away: only the last epochs are kept."""
        for row in self.service.database.query("checkpoint_adapters", job_id=self.job.id):
            if not (self.service.home.path / row["adapter"]).is_dir():
                self.service.catalogue.forget(row["model"])

    def _result_file(self) -> FileRecord:
        """Write the table of steps; the same job always gives the same file."""
        id = derived_id("file-", self.job.id, RESULT_NAME)
        rows = [json.loads(row["data"]) for row in self.service.database.query("step_data", job_id=self.job.id)]
        size = self.service.files.write(id, _table(rows), purpose=RESULTS)
        return FileRecord(id=id, created_at=int(time.time()), bytes=size, filename=RESULT_NAME, purpose=RESULTS)

    def _ours(self) -> AbstractContextManager[None]:
        return self.service.queue.held(self.job.id, self.job.attempt)


def _table(rows: list[dict[str, Any]]) -> Iterator[bytes]:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([row.get(name, "") for name in COLUMNS.values()] for row in rows)
    yield text.getvalue().encode()
