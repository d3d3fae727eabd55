"""What the service stores, as its parts hand it on; the REST door puts it into OpenAI's words."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

JobStatus = Literal["validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
ENDED: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")
Level = Literal["info", "warn", "error"]


T = TypeVar("T")


class Record(BaseModel):
    """One stored thing; times are whole seconds since 1970."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    id: str
    created_at: int


class FileRecord(Record):
    """An uploaded or a result file; its bytes lie at a path that only the service chooses."""

    bytes: int
    filename: str
    """What the client called it; never used as a path."""
    purpose: str
    status: Literal["uploaded", "processed", "error"] = "processed"
    status_details: str | None = None
    expires_at: int | None = None


class UploadRecord(Record):
    """A file that arrives in parts."""

    bytes: int
    filename: str
    purpose: str
    mime_type: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    expires_at: int
    file_id: str | None = None
    """Set when it is complete."""


class PartRecord(Record):
    """One part of an upload."""

    upload_id: str


class Hyperparameters(BaseModel):
    """What was asked for, or, once the job runs, what is used; numbers or "auto"."""

    model_config = ConfigDict(frozen=True)

    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"
    n_epochs: int | Literal["auto"] = "auto"
    beta: float | Literal["auto"] | None = None
    """Only with dpo."""


class JobError(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    param: str | None = None


class JobRecord(Record):
    """One fine-tuning job."""

    model: str
    """The base as the client named it."""
    base: str
    """The name in the service's list of bases that really runs."""
    method: Literal["supervised", "dpo"]
    old_style: bool = False
    """The hyperparameters came in the old top-level field."""
    status: JobStatus
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None
    hyperparameters: Hyperparameters
    fine_tuned_model: str | None = None
    result_files: tuple[str, ...] = ()
    trained_tokens: int | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    error: JobError | None = None
    attempt: int = 0
    """How often a worker has claimed it; the fencing token of every write a worker makes."""


class EventRecord(Record):
    """One thing that happened to a job; `key` is unique within the job, so that a repeat is not a second event."""

    job_id: str
    key: str
    level: Level
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] | None = None


class CheckpointRecord(Record):
    """Weights of a job at the end of an epoch or at a pause, usable as a model."""

    job_id: str
    model: str
    """`ft:base:org:suffix:id:ckpt-step-N`."""
    step: int
    metrics: dict[str, float]


class PermissionRecord(Record):
    """A project that may use a checkpoint."""

    checkpoint: str
    project_id: str


class ModelRecord(Record):
    """A model that can be asked: a base, a tuned one, a checkpoint."""

    owned_by: str
    base: str
    """The service's name of the base that answers."""
    adapter: str | None = None
    """Folder of the adapter's weights; None for a base."""
    job_id: str | None = None


class KeyRecord(Record):
    """An API key; only its hash and last characters are stored."""

    name: str
    last4: str
    project_id: str
    admin: bool
    revoked_at: int | None = None


class DeploymentRecord(Record):
    """Azure's name for a model that is served."""

    model: str
    sku: dict[str, Any] = {}


class Page(BaseModel, Generic[T]):
    """Part of a list."""

    model_config = ConfigDict(frozen=True)

    data: list[T]
    has_more: bool = False
