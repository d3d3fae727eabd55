"""/fine_tuning: jobs, their events and checkpoints, and who may use a checkpoint."""

import hashlib
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.datastructures import QueryParams

from luthier.api.deps import IdempotencyKey, admin_of, once_of, owner_of, service_of
from luthier.api.shapes import (
    CheckpointList,
    CreateJob,
    CreatePermissions,
    EventList,
    JobList,
    JobObject,
    PermissionDeleted,
    PermissionList,
)
from luthier.api.words import (
    checkpoint_shape,
    ends_shape,
    event_shape,
    job_shape,
    list_shape,
    new_job,
    permission_shape,
)
from luthier.jobs.service.records import JobRecord, Page
from luthier.jobs.service.refusal import Refusal

router = APIRouter(prefix="/fine_tuning", tags=["fine-tuning"])
Limit = Annotated[int, Query(ge=1, le=100)]
PAIR = re.compile(r"metadata\[([^\[\]]*)\]")
METADATA = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "description": "`metadata[key]=value`, several times; or the word `null` for jobs without metadata.",
            "style": "deepObject",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}


@router.post("/jobs", response_model=JobObject, response_model_exclude_unset=True, operation_id="createFineTuningJob")
def create_job(request: Request, body: CreateJob, key: IdempotencyKey = None) -> Any:
    """Take a job; its files are read before it is queued."""
    tuning, owner, asked = service_of(request).tuning, owner_of(request), new_job(body)
    if key is None:
        return _shape(request, tuning.create(asked, owner))
    digest = hashlib.sha256(f"job\n{asked.model_dump_json()}".encode()).hexdigest()
    told = once_of(request).do(owner, key, digest, work=lambda: _shape(request, tuning.create(asked, owner)))
    # Only now, all being written down, is there something to see.
    tuning.wake()
    return told


@router.get(
    "/jobs",
    response_model=JobList,
    response_model_exclude_unset=True,
    operation_id="listPaginatedFineTuningJobs",
    openapi_extra=METADATA,
)
def list_jobs(request: Request, after: str | None = None, limit: Limit = 20) -> Any:
    """List a project's jobs, newest first."""
    wanted, without = _metadata(request.query_params)
    page = service_of(request).tuning.list(
        owner_of(request), limit=limit, after=after, metadata=wanted, no_metadata=without
    )
    return list_shape(page, lambda job: _shape(request, job))


@router.get(
    "/jobs/{fine_tuning_job_id}",
    response_model=JobObject,
    response_model_exclude_unset=True,
    operation_id="retrieveFineTuningJob",
)
def get_job(request: Request, fine_tuning_job_id: str) -> Any:
    """Return a job as it stands."""
    return _shape(request, service_of(request).tuning.get(fine_tuning_job_id, owner_of(request)))


@router.post(
    "/jobs/{fine_tuning_job_id}/cancel",
    response_model=JobObject,
    response_model_exclude_unset=True,
    operation_id="cancelFineTuningJob",
)
def cancel_job(request: Request, fine_tuning_job_id: str) -> Any:
    """End a job."""
    return _shape(request, service_of(request).tuning.cancel(fine_tuning_job_id, owner_of(request)))


@router.post(
    "/jobs/{fine_tuning_job_id}/pause",
    response_model=JobObject,
    response_model_exclude_unset=True,
    operation_id="pauseFineTuningJob",
)
def pause_job(request: Request, fine_tuning_job_id: str) -> Any:
    """Let a running job keep a checkpoint and wait."""
    return _shape(request, service_of(request).tuning.pause(fine_tuning_job_id, owner_of(request)))


@router.post(
    "/jobs/{fine_tuning_job_id}/resume",
    response_model=JobObject,
    response_model_exclude_unset=True,
    operation_id="resumeFineTuningJob",
)
def resume_job(request: Request, fine_tuning_job_id: str) -> Any:
    """Let a paused job go on, exactly where it was."""
    return _shape(request, service_of(request).tuning.resume(fine_tuning_job_id, owner_of(request)))


@router.get("/jobs/{fine_tuning_job_id}/events", response_model=EventList, operation_id="listFineTuningEvents")
def list_events(request: Request, fine_tuning_job_id: str, after: str | None = None, limit: Limit = 20) -> Any:
    """List what happened to a job, newest first."""
    tuning, owner = service_of(request).tuning, owner_of(request)
    return list_shape(tuning.events(fine_tuning_job_id, owner, limit=limit, after=after), event_shape)


@router.get(
    "/jobs/{fine_tuning_job_id}/checkpoints",
    response_model=CheckpointList,
    response_model_exclude_unset=True,
    operation_id="listFineTuningJobCheckpoints",
)
def list_checkpoints(request: Request, fine_tuning_job_id: str, after: str | None = None, limit: Limit = 10) -> Any:
    """List a job's checkpoints, newest first; each can be asked as a model."""
    tuning, owner = service_of(request).tuning, owner_of(request)
    return ends_shape(tuning.checkpoints(fine_tuning_job_id, owner, limit=limit, after=after), checkpoint_shape)


@router.get(
    "/checkpoints/{fine_tuned_model_checkpoint}/permissions",
    response_model=PermissionList,
    operation_id="listFineTuningCheckpointPermissions",
)
def list_permissions(
    request: Request,
    fine_tuned_model_checkpoint: str,
    project_id: str | None = None,
    after: str | None = None,
    limit: Limit = 10,
    order: Literal["ascending", "descending"] = "descending",
) -> Any:
    """List the projects that may use a checkpoint; for an admin key."""
    page = service_of(request).tuning.permissions(
        fine_tuned_model_checkpoint, _admin(request), project_id=project_id, limit=limit, after=after, order=order
    )
    return ends_shape(page, permission_shape)


@router.post(
    "/checkpoints/{fine_tuned_model_checkpoint}/permissions",
    response_model=PermissionList,
    operation_id="createFineTuningCheckpointPermission",
)
def create_permissions(request: Request, fine_tuned_model_checkpoint: str, body: CreatePermissions) -> Any:
    """Let projects use a checkpoint; for an admin key."""
    owner = _admin(request)
    given = service_of(request).tuning.permit(fine_tuned_model_checkpoint, body.project_ids, owner)
    return ends_shape(Page(data=given), permission_shape)


@router.delete(
    "/checkpoints/{fine_tuned_model_checkpoint}/permissions/{permission_id}",
    response_model=PermissionDeleted,
    operation_id="deleteFineTuningCheckpointPermission",
)
def delete_permission(request: Request, fine_tuned_model_checkpoint: str, permission_id: str) -> Any:
    """Take a permission back; for an admin key."""
    service_of(request).tuning.forbid(fine_tuned_model_checkpoint, permission_id, _admin(request))
    return {"id": permission_id, "object": "checkpoint.permission", "deleted": True}


def _shape(request: Request, job: JobRecord) -> dict[str, Any]:
    return job_shape(job, service_of(request).settings.organization)


def _metadata(query: QueryParams) -> tuple[dict[str, str], bool]:
    """Return the pairs asked for, and whether jobs without any are; what is neither is refused and not ignored."""
    asked = [(name, value) for name, value in query.multi_items() if name.startswith("metadata")]
    pairs = {found[1]: value for name, value in asked if (found := PAIR.fullmatch(name))}
    without = asked == [("metadata", "null")]
    if not without and len(pairs) < len(asked):
        message = "Invalid 'metadata': give metadata[key]=value, once for each key, or metadata=null."
        raise Refusal(message, param="metadata", code="invalid_value")
    return pairs, without


def _admin(request: Request) -> str:
    """Return the project of an admin's key; other keys are refused."""
    if not admin_of(request):
        message = "This needs an admin key. Make one with `luthier keys create NAME --admin`."
        raise Refusal(message, status=403, code="insufficient_permissions", kind="permission_error")
    return owner_of(request)
