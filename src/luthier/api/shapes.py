"""Files, uploads, jobs and models in OpenAI's words: what is taken and what is told, field by field."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from luthier.api.shapes_talk import Body, Metadata, Told
from luthier.jobs.service.records import JobStatus, Level

Auto = Literal["auto"]
UploadPurpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Purpose = Literal[
    "assistants", "assistants_output", "batch", "batch_output", "fine-tune", "fine-tune-results", "vision", "user_data",
    "evals",
]  # fmt: skip
"""What a file may be for; the hosted list leaves `evals` out although it can be uploaded."""


class ErrorFields(Told):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Told):
    """Every reply that is no success."""

    error: ErrorFields


class FileObject(Told):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int = 0
    """Seconds since 1970; left out where the file stays."""
    filename: str
    purpose: Purpose
    status: Literal["uploaded", "processed", "error"]
    status_details: str = ""


class FileList(Told):
    """A page of files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str
    """Empty where there is no file."""
    last_id: str
    has_more: bool


class FileDeleted(Told):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: bool


class ExpiresAfter(Body):
    """When a file goes."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class CreateUpload(Body):
    """A file that will arrive in parts."""

    bytes: int = Field(ge=0, le=512 << 20)
    filename: str = Field(min_length=1, max_length=255)
    mime_type: str = Field(min_length=1, max_length=255)
    purpose: UploadPurpose
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Body):
    """The order of the parts."""

    part_ids: list[str] = Field(min_length=1, max_length=10_000)
    md5: str | None = None
    """Of the whole file, in hexadecimal; checked where it is given."""


class UploadObject(Told):
    """An upload."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: UploadPurpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None


class PartObject(Told):
    """A part of an upload."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class AskedHyperparameters(Body):
    """How to train; `auto` is resolved and reported."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"


class AskedDpoHyperparameters(AskedHyperparameters):
    """How to train on preferences."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"


class AskedSupervised(Body):
    """Train on answers."""

    hyperparameters: AskedHyperparameters | None = None


class AskedDpo(Body):
    """Train on preferred and rejected answers."""

    hyperparameters: AskedDpoHyperparameters | None = None


class AskedMethod(Body):
    """What kind of training."""

    type: Literal["supervised", "dpo", "reinforcement"]
    """`reinforcement` is known and refused: it does not exist here."""
    supervised: AskedSupervised | None = None
    dpo: AskedDpo | None = None
    reinforcement: dict[str, Any] | None = None


class Wandb(Body):
    """Where a tracker would be told."""

    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] = []


class AskedIntegration(Body):
    """A tracker; none can be used here, and one that is asked for is refused by name."""

    type: Literal["wandb"]
    wandb: Wandb


def _encodable(text: str) -> str:
    text.encode()
    return text


class CreateJob(Body):
    """A fine-tuning job."""

    model: Annotated[str, AfterValidator(_encodable)]
    """A base on offer, or a name that the service maps to one."""
    training_file: str
    validation_file: str | None = None
    hyperparameters: AskedHyperparameters | None = None
    """The old place; `method` is the new one."""
    method: AskedMethod | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Annotated[Metadata, Field(max_length=16)] | None = None
    integrations: Annotated[list[AskedIntegration], Field(max_length=5)] | None = None
    trainingType: Literal["standard", "globalStandard", "developerTier"] | None = None
    """Azure's choice of where to train; a job always trains on this machine."""
    prompt_loss_weight: Annotated[float, Field(ge=0, le=0)] | None = None
    """Azure's weight of the prompt in the loss; only 0, since loss falls on answers alone."""


class JobError(Told):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class ToldHyperparameters(Told):
    """What is used, once the job runs."""

    batch_size: Auto | int | None
    learning_rate_multiplier: Auto | float
    n_epochs: Auto | int


class ToldDpoHyperparameters(ToldHyperparameters):
    """What is used for preferences."""

    beta: Auto | float


class ToldSupervised(Told):
    """Training on answers."""

    hyperparameters: ToldHyperparameters


class ToldDpo(Told):
    """Training on preferences."""

    hyperparameters: ToldDpoHyperparameters


class ToldMethod(Told):
    """What kind of training."""

    type: Literal["supervised", "dpo"]
    supervised: ToldSupervised | None = None
    dpo: ToldDpo | None = None


class JobObject(Told):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    model: str
    organization_id: str
    status: JobStatus
    """As hosted, and `pausing` and `paused`, which the hosted service has but its schema leaves out."""
    training_file: str
    validation_file: str | None
    hyperparameters: ToldHyperparameters
    method: ToldMethod
    seed: int
    trained_tokens: int | None
    fine_tuned_model: str | None
    result_files: list[str]
    error: JobError | None
    finished_at: int | None
    estimated_finish: int | None
    metadata: dict[str, str] | None
    integrations: list[dict[str, Any]] | None
    user_provided_suffix: str | None
    usage_metrics: None
    shared_with_openai: Literal[False]
    """Nothing leaves this machine."""


class JobList(Told):
    """A page of jobs."""

    object: Literal["list"]
    data: list[JobObject]
    has_more: bool


class EventObject(Told):
    """One thing that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Level
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class EventList(Told):
    """A page of events, newest first."""

    object: Literal["list"]
    data: list[EventObject]
    has_more: bool


class CheckpointMetrics(Told):
    """What was measured at a checkpoint; what was not measured is left out."""

    step: float
    train_loss: float = 0
    train_mean_token_accuracy: float = 0
    valid_loss: float = 0
    valid_mean_token_accuracy: float = 0
    full_valid_loss: float = 0
    full_valid_mean_token_accuracy: float = 0


class CheckpointObject(Told):
    """Weights of a job, usable as a model."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics


class CheckpointList(Told):
    """A page of checkpoints, newest first."""

    object: Literal["list"]
    data: list[CheckpointObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class CreatePermissions(Body):
    """Projects that may use a checkpoint."""

    project_ids: list[str] = Field(min_length=1, max_length=100)


class PermissionObject(Told):
    """A project that may use a checkpoint."""

    id: str
    object: Literal["checkpoint.permission"]
    created_at: int
    project_id: str


class PermissionList(Told):
    """A page of permissions."""

    object: Literal["list"]
    data: list[PermissionObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class PermissionDeleted(Told):
    """A permission that is gone."""

    id: str
    object: Literal["checkpoint.permission"]
    deleted: bool


class ModelObject(Told):
    """A model that can be asked."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Told):
    """All models."""

    object: Literal["list"]
    data: list[ModelObject]


class ModelDeleted(Told):
    """A model that is gone."""

    id: str
    object: Literal["model"]
    deleted: bool
