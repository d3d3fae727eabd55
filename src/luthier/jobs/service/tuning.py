"""Fine-tuning jobs as a client sees them: asked for, looked at, paused, cancelled."""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from luthier.core.files import disk_errors
from luthier.jobs.service.catalogue import Catalogue
from luthier.jobs.service.database import Database, as_page, as_record, check_limit
from luthier.jobs.service.events import Events
from luthier.jobs.service.files import Files
from luthier.jobs.service.home import PRIVATE_FOLDER, Home, remove
from luthier.jobs.service.ids import Id, new_id
from luthier.jobs.service.keys import PROJECT
from luthier.jobs.service.queue import Queue
from luthier.jobs.service.records import (
    CheckpointRecord,
    EventRecord,
    Hyperparameters,
    JobRecord,
    Page,
    PermissionRecord,
)
from luthier.jobs.service.refusal import Refusal, not_found

TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"
"""A job's own hold on its files: deleting or expiring them does not disturb it."""
SEEDS = 2**31
MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE, LONGEST_SUFFIX = 16, 64, 512, 64
MOST_BATCH, MOST_EPOCHS, MOST_BETA = 256, 50, 2.0


class NewJob(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(frozen=True)

    model: str
    training_file: str
    validation_file: str | None = None
    method: str = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    old_style: bool = False
    suffix: str | None = None
    seed: int | None = None
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None


class Tuning:
    """The jobs of all projects; a job of another project is not there."""

    def __init__(  # noqa: PLR0913 (the parts of the desk that a job touches)
        self,
        home: Home,
        database: Database,
        *,
        files: Files,
        catalogue: Catalogue,
        events: Events,
        queue: Queue,
        wake: Callable[[], None],
    ) -> None:
        self.home = home
        self.database = database
        self.files = files
        self.catalogue = catalogue
        self.told = events
        self.queue = queue
        self.wake = wake
        """Called after each change that the supervisor acts on."""

    def create(self, asked: NewJob, owner: str) -> JobRecord:
        """Take a job; its files are read in the background, before it is queued."""
        method = check_method(asked)
        base = self.catalogue.tunable(asked.model)
        check_asked(asked)
        self._check_file(asked.training_file, owner, "training_file")
        if asked.validation_file is not None:
            self._check_file(asked.validation_file, owner, "validation_file")
        job = JobRecord(
            id=new_id("ftjob-"),
            created_at=int(time.time()),
            model=asked.model,
            base=base,
            method=method,
            old_style=asked.old_style,
            status="validating_files",
            training_file=asked.training_file,
            validation_file=asked.validation_file,
            suffix=asked.suffix,
            seed=secrets.randbelow(SEEDS) if asked.seed is None else asked.seed,
            metadata=asked.metadata,
            integrations=asked.integrations,
            hyperparameters=asked.hyperparameters,
        )
        self._hold_files(job)
        try:
            self.queue.add(job, owner)
        except BaseException:
            remove(self.home.job(Id(job.id)))
            raise
        self.wake()
        return job

    def get(self, id: str, owner: str) -> JobRecord:
        """Return a job as it stands."""
        row = self.database.one("job_of", id=id, owner=owner)
        if row is None:
            raise no_job(id)
        return as_record(JobRecord, row)

    def list(
        self,
        owner: str,
        *,
        limit: int = 20,
        after: str | None = None,
        metadata: dict[str, str] | None = None,
        no_metadata: bool = False,
    ) -> Page[JobRecord]:
        """Return a project's jobs, newest first; with `metadata` those that have all these pairs."""
        if after is not None:
            self.get(after, owner)
        values = {"after": after, "wanted": metadata or {}, "no_metadata": no_metadata}
        rows = self.database.query("jobs", owner=owner, limit=check_limit(limit), **values)
        return as_page(rows, limit, lambda row: as_record(JobRecord, row))

    def cancel(self, id: str, owner: str) -> JobRecord:
        """End a job that is not wanted any more."""
        self.get(id, owner)
        job = self.queue.cancel(id)
        self.wake()
        return job

    def pause(self, id: str, owner: str) -> JobRecord:
        """Let a running job finish its step, keep a checkpoint, and wait."""
        self.get(id, owner)
        job = self.queue.pause(id)
        self.wake()
        return job

    def resume(self, id: str, owner: str) -> JobRecord:
        """Let a paused job go on."""
        self.get(id, owner)
        job = self.queue.resume(id)
        self.wake()
        return job

    def events(self, id: str, owner: str, *, limit: int = 20, after: str | None = None) -> Page[EventRecord]:
        """Return what happened to a job, newest first."""
        self.get(id, owner)
        return self.told.page(id, limit=limit, after=after)

    def checkpoints(self, id: str, owner: str, *, limit: int = 10, after: str | None = None) -> Page[CheckpointRecord]:
        """Return a job's checkpoints, newest first."""
        self.get(id, owner)
        if after is not None and self.database.one("checkpoint", job_id=id, id=after) is None:
            raise not_found("FineTuningJobCheckpoint", after, param="after")
        rows = self.database.query("checkpoints", job_id=id, limit=check_limit(limit), after=after)
        return as_page(rows, limit, lambda row: as_record(CheckpointRecord, row))

    def permissions(
        self,
        checkpoint: str,
        owner: str,
        *,
        project_id: str | None = None,
        limit: int = 10,
        after: str | None = None,
        order: Literal["ascending", "descending"] = "descending",
    ) -> Page[PermissionRecord]:
        """Return the projects that may use a checkpoint."""
        self._check_checkpoint(checkpoint, owner)
        if after is not None and self.database.one("permission", checkpoint=checkpoint, id=after) is None:
            raise not_found("CheckpointPermission", after, param="after")
        name = "permissions_down" if order == "descending" else "permissions_up"
        values = {"checkpoint": checkpoint, "project_id": project_id, "after": after}
        rows = self.database.query(name, limit=check_limit(limit), **values)
        return as_page(rows, limit, lambda row: as_record(PermissionRecord, row))

    def permit(self, checkpoint: str, project_ids: Sequence[str], owner: str) -> "list[PermissionRecord]":
        """Let projects use a checkpoint; one that may already stays as it is."""
        self._check_checkpoint(checkpoint, owner)
        for project in project_ids:
            if not PROJECT.fullmatch(project):
                raise Refusal(f"'{project[:80]}' is not the id of a project - 'project_ids'", param="project_ids")
        given = []
        with self.database.transaction():
            for project in project_ids:
                values = {"checkpoint": checkpoint, "project_id": project}
                self.database.query("add_permission", id=new_id("cp_"), created_at=int(time.time()), **values)
                given.append(self.database.query("permission_for", **values)[0])
        return [as_record(PermissionRecord, row) for row in given]

    def forbid(self, checkpoint: str, permission_id: str, owner: str) -> None:
        """Take a permission back."""
        self._check_checkpoint(checkpoint, owner)
        if self.database.one("delete_permission", checkpoint=checkpoint, id=permission_id) is None:
            raise not_found("CheckpointPermission", permission_id, param="permission_id")

    def sweep(self) -> None:
        """Remove run folders that a crash left without a job."""
        known = {row["id"] for row in self.database.query("job_ids")}
        for folder in self.home.jobs.iterdir():
            if folder.name not in known:
                remove(folder)

    def _check_file(self, id: str, owner: str, param: str) -> None:
        try:
            file = self.files.get(id, owner)
        except Refusal as refusal:
            raise not_found("File", id, param=param) from refusal
        if file.purpose != "fine-tune":
            what = f"Invalid file purpose: {id} has the purpose '{file.purpose}', it must be 'fine-tune'."
            raise Refusal(what, code="invalid_file_purpose", param=param)

    def _hold_files(self, job: JobRecord) -> None:
        folder = self.home.job(Id(job.id))
        with disk_errors(folder):
            folder.mkdir(mode=PRIVATE_FOLDER)
            for file, name in ((job.training_file, TRAINING), (job.validation_file, VALIDATION)):
                if file is not None:
                    self._hold(Id(file), folder / name, folder)

    def _hold(self, file: Id, name: Any, folder: Any) -> None:
        try:
            os.link(self.home.file(file), name, follow_symlinks=False)
        except FileNotFoundError as error:
            shutil.rmtree(folder)
            raise not_found("File", file, param="training_file") from error

    def _check_checkpoint(self, checkpoint: str, owner: str) -> None:
        if self.database.one("checkpoint_owner", model=checkpoint, owner=owner) is None:
            raise not_found("FineTuningCheckpoint", checkpoint, param="fine_tuned_model_checkpoint")


def no_job(id: str) -> Refusal:
    """Return the hosted service's words for a job that is not there."""
    return Refusal(f"Could not find fine tune: {id}", status=404, code="fine_tune_not_found", param="fine_tune_id")


def check_method(asked: NewJob) -> Literal["supervised", "dpo"]:
    """Return the method, or refuse one that is not here."""
    if asked.method in ("supervised", "dpo"):
        return asked.method  # type: ignore[return-value]
    if asked.method == "reinforcement":
        what = f"Model {asked.model} is not available for reinforcement fine-tuning here; use 'supervised' or 'dpo'."
        raise Refusal(what, code="model_not_available", param="method.type")
    what = f"'{asked.method[:80]}' is not one of ['supervised', 'dpo', 'reinforcement'] - 'method.type'"
    raise Refusal(what, param="method.type")


def check_asked(asked: NewJob) -> None:
    """Refuse what is out of the documented ranges, and what would be taken and not done."""
    place = "hyperparameters" if asked.old_style else f"method.{asked.method}.hyperparameters"
    wanted, dpo = asked.hyperparameters, asked.method == "dpo"
    _check_range(wanted.batch_size, 1, MOST_BATCH, f"{place}.batch_size")
    _check_range(wanted.n_epochs, 1, MOST_EPOCHS, f"{place}.n_epochs")
    _check_range(wanted.learning_rate_multiplier, 0, float("inf"), f"{place}.learning_rate_multiplier", open_low=True)
    if wanted.beta is not None and not dpo:
        raise Refusal(f"'beta' belongs to the method 'dpo' - '{place}.beta'", param=f"{place}.beta")
    _check_range(wanted.beta, 0, MOST_BETA, f"{place}.beta", open_low=True)
    if asked.seed is not None:
        _check_range(asked.seed, 0, SEEDS - 1, "seed")
    if asked.suffix is not None and not 1 <= len(asked.suffix) <= LONGEST_SUFFIX:
        raise Refusal(f"A suffix has 1 to {LONGEST_SUFFIX} characters - 'suffix'", param="suffix")
    if asked.integrations:
        kind = str(asked.integrations[0].get("type"))[:80]
        what = f"The integration '{kind}' is not available here; leave 'integrations' out."
        raise Refusal(what, code="integration_not_available", param="integrations")
    _check_metadata(asked.metadata or {})


def _check_range(value: float | str | None, low: float, high: float, param: str, *, open_low: bool = False) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if value < low or (open_low and value == low):
        raise Refusal(f"{value} is less than the minimum of {low} - '{param}'", param=param)
    if not value <= high or value == float("inf"):
        raise Refusal(f"{value} is greater than the maximum of {high} - '{param}'", param=param)


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > MOST_PAIRS:
        raise Refusal(f"At most {MOST_PAIRS} pairs - 'metadata'", param="metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= LONGEST_KEY or len(value) > LONGEST_VALUE:
            what = f"A key has 1 to {LONGEST_KEY} characters, a value at most {LONGEST_VALUE} - 'metadata'"
            raise Refusal(what, param="metadata")
