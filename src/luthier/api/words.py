"""Our records in OpenAI's words, and their requests in ours; this translation is made here and nowhere else."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from luthier.api.shapes import CreateJob
from luthier.jobs.service.records import (
    CheckpointRecord,
    EventRecord,
    FileRecord,
    Hyperparameters,
    JobRecord,
    ModelRecord,
    Page,
    PartRecord,
    PermissionRecord,
    Record,
    UploadRecord,
)
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.tuning import NewJob

Json = dict[str, Any]
R = TypeVar("R", bound=Record)


def file_shape(file: FileRecord) -> Json:
    """Return a file."""
    told = {"object": "file", **file.model_dump()}
    return {name: value for name, value in told.items() if value is not None}


def upload_shape(upload: UploadRecord, file: FileRecord | None) -> Json:
    """Return an upload, with its file once it is complete."""
    told = upload.model_dump(exclude={"file_id", "mime_type"})
    return {"object": "upload", **told, "file": file_shape(file) if file else None}


def part_shape(part: PartRecord) -> Json:
    """Return a part of an upload."""
    return {"object": "upload.part", **part.model_dump()}


def new_job(asked: CreateJob) -> NewJob:
    """Return what a request asks for; the hyperparameters stand in one of two places, or in none."""
    method = asked.method.type if asked.method else "supervised"
    if asked.method is not None and asked.hyperparameters is not None:
        message = "Give the hyperparameters in 'method' or in 'hyperparameters', not in both."
        raise Refusal(message, param="hyperparameters")
    chosen = getattr(asked.method, method) if asked.method else None
    wanted = getattr(chosen, "hyperparameters", None) or asked.hyperparameters
    values = wanted.model_dump() if wanted else {}
    if method == "dpo":
        values.setdefault("beta", "auto")
    integrations = [one.model_dump() for one in asked.integrations] if asked.integrations is not None else None
    return NewJob(
        model=asked.model,
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        method=method,
        hyperparameters=Hyperparameters(**values),
        old_style=asked.method is None,
        suffix=asked.suffix,
        seed=asked.seed,
        metadata=asked.metadata,
        integrations=integrations,
    )


def job_shape(job: JobRecord, organization: str) -> Json:
    """Return a job; `hyperparameters` is always an object and `error` is null where there is none."""
    used = job.hyperparameters.model_dump(include={"batch_size", "learning_rate_multiplier", "n_epochs"})
    own = {**used, "beta": job.hyperparameters.beta or "auto"} if job.method == "dpo" else used
    return {
        "object": "fine_tuning.job",
        "id": job.id,
        "created_at": job.created_at,
        "model": job.model,
        "organization_id": organization,
        "status": job.status,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "hyperparameters": used,
        "method": {"type": job.method, job.method: {"hyperparameters": own}},
        "seed": job.seed,
        "trained_tokens": job.trained_tokens,
        "fine_tuned_model": job.fine_tuned_model,
        "result_files": list(job.result_files),
        "error": job.error.model_dump() if job.error else None,
        "finished_at": job.finished_at,
        "estimated_finish": job.estimated_finish,
        "metadata": job.metadata,
        "integrations": job.integrations,
        "user_provided_suffix": job.suffix,
        "usage_metrics": None,
        "shared_with_openai": False,
    }


def event_shape(event: EventRecord) -> Json:
    """Return an event."""
    told = event.model_dump(exclude={"job_id", "key"})
    return {"object": "fine_tuning.job.event", **told, "data": event.data or {}}


def checkpoint_shape(checkpoint: CheckpointRecord) -> Json:
    """Return a checkpoint."""
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": checkpoint.id,
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": checkpoint.model,
        "fine_tuning_job_id": checkpoint.job_id,
        "step_number": checkpoint.step,
        "metrics": {"step": checkpoint.step, **checkpoint.metrics},
    }


def permission_shape(permission: PermissionRecord) -> Json:
    """Return a permission."""
    return {"object": "checkpoint.permission", **permission.model_dump(exclude={"checkpoint"})}


def model_shape(model: ModelRecord) -> Json:
    """Return a model."""
    return {"object": "model", "id": model.id, "created": model.created_at, "owned_by": model.owned_by}


def list_shape(page: Page[R], shape: Callable[[R], Json]) -> Json:
    """Return a page."""
    return {"object": "list", "data": [shape(record) for record in page.data], "has_more": page.has_more}


def ends_shape(page: Page[R], shape: Callable[[R], Json], *, empty: str | None = None) -> Json:
    """Return a page that also names its first and last; `empty` stands for them where there is nothing."""
    ids: Sequence[str | None] = [record.id for record in page.data] or [empty]
    return {**list_shape(page, shape), "first_id": ids[0], "last_id": ids[-1]}
