"""What the service stores about evals."""

from typing import Any, Literal

from pydantic import BaseModel

from luthier.jobs.service.records import Record

RunStatus = Literal["queued", "in_progress", "completed", "failed", "canceled"]
ItemStatus = Literal["pass", "fail", "error"]


class EvalRecord(Record):
    """Rows of one shape and how answers to them are judged."""

    updated_at: int
    name: str
    metadata: dict[str, str] | None = None
    data: dict[str, Any]
    """`data_source_config` and `testing_criteria`, as they came."""


class Usage(BaseModel):
    """What a model has read and written."""

    invocation_count: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Judged(BaseModel):
    """How often one criterion was met; rows that could not be judged count in neither."""

    passed: int = 0
    failed: int = 0


class Totals(BaseModel):
    """A run's counts so far."""

    passed: int = 0
    failed: int = 0
    errored: int = 0
    criteria: list[Judged] = []
    """In the order of the eval's criteria."""
    usage: dict[str, Usage] = {}
    """By the model that really answered."""


class RunError(BaseModel):
    """Why a run failed."""

    code: str
    message: str


class EvalRunRecord(Record):
    """One run of an eval over some rows."""

    eval_id: str
    owner: str
    name: str
    model: str
    """The model that answers first; empty where the rows hold their answers."""
    status: RunStatus
    metadata: dict[str, str] | None = None
    data: dict[str, Any]
    """`data_source`, as it came, and `criteria`, the names of what it is judged by."""
    metrics: Totals
    error: RunError | None = None
    attempt: int = 0


class EvalItemRecord(Record):
    """What came of one row."""

    eval_id: str
    run_id: str
    place: int
    """Of the row, from 0."""
    status: ItemStatus
    data: dict[str, Any]
    """`datasource_item`, `results` and `sample`, as OpenAI writes them."""
