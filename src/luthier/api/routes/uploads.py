"""/uploads: a large file in parts."""

from typing import Annotated, Any

from fastapi import APIRouter, File, Request, UploadFile

from luthier.api.deps import owner_of, service_of
from luthier.api.shapes import CompleteUpload, CreateUpload, PartObject, UploadObject
from luthier.api.words import part_shape, upload_shape

router = APIRouter(prefix="/uploads", tags=["uploads"])


@router.post("", response_model=UploadObject, response_model_exclude_unset=True, operation_id="createUpload")
def create_upload(request: Request, body: CreateUpload) -> Any:
    """Begin an upload; it waits an hour for its parts."""
    made = service_of(request).uploads.create(
        bytes=body.bytes,
        filename=body.filename,
        mime_type=body.mime_type,
        purpose=body.purpose,
        owner=owner_of(request),
        expires_after_s=body.expires_after.seconds if body.expires_after else None,
    )
    return upload_shape(made, None)


@router.post("/{upload_id}/parts", response_model=PartObject, operation_id="addUploadPart")
def add_part(request: Request, upload_id: str, data: Annotated[UploadFile, File()]) -> Any:
    """Store one part, of at most 64 MB."""
    return part_shape(service_of(request).uploads.add_part(upload_id, data.file, owner_of(request)))


@router.post(
    "/{upload_id}/complete",
    response_model=UploadObject,
    response_model_exclude_unset=True,
    operation_id="completeUpload",
)
def complete_upload(request: Request, upload_id: str, body: CompleteUpload) -> Any:
    """Make the parts a file."""
    uploads, owner = service_of(request).uploads, owner_of(request)
    return upload_shape(*uploads.complete(upload_id, body.part_ids, owner, md5=body.md5))


@router.post(
    "/{upload_id}/cancel",
    response_model=UploadObject,
    response_model_exclude_unset=True,
    operation_id="cancelUpload",
)
def cancel_upload(request: Request, upload_id: str) -> Any:
    """End an upload and forget its parts."""
    return upload_shape(service_of(request).uploads.cancel(upload_id, owner_of(request)), None)
