"""/files: uploaded, listed, read and deleted."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import StreamingResponse

from luthier.api.deps import IdempotencyKey, once_of, owner_of, service_of
from luthier.api.shapes import FileDeleted, FileList, FileObject, UploadPurpose
from luthier.api.words import ends_shape, file_shape
from luthier.jobs.service.files import RESULTS
from luthier.jobs.service.home import open_kept
from luthier.jobs.service.refusal import Refusal, not_found

router = APIRouter(prefix="/files", tags=["files"])
CHUNK_BYTES = 3 << 18
"""A multiple of three, so that base64 of the chunks is base64 of the whole."""
AZURE = "/openai/"
BYTES = {200: {"description": "The file's bytes.", "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}  # fmt: skip # noqa: E501


@router.post("", response_model=FileObject, response_model_exclude_unset=True, operation_id="createFile")
def create_file(
    request: Request,
    file: Annotated[UploadFile, File()],
    purpose: Annotated[UploadPurpose, Form()],
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=2_592_000)] = None,
    key: IdempotencyKey = None,
) -> Any:
    """Store a file; it is streamed to the disk, and one for fine-tuning must be JSON lines."""
    if (anchor is None) != (seconds is None):
        message = "'expires_after' needs both 'anchor' and 'seconds'."
        raise Refusal(message, param="expires_after", code="missing_required_parameter")
    given = {"filename": file.filename or "file", "purpose": purpose, "expires_after_s": seconds}
    if key is None:
        return file_shape(service_of(request).files.create(file.file, owner=owner_of(request), **given))
    return _create_once(request, file.file, given, key)


@router.get("", response_model=FileList, response_model_exclude_unset=True, operation_id="listFiles")
def list_files(
    request: Request,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> Any:
    """List a project's files."""
    page = service_of(request).files.list(owner_of(request), purpose=purpose, limit=limit, order=order, after=after)
    return ends_shape(page, file_shape, empty="")


@router.get("/{file_id}", response_model=FileObject, response_model_exclude_unset=True, operation_id="retrieveFile")
def get_file(request: Request, file_id: str) -> Any:
    """Return a file's record."""
    return file_shape(service_of(request).files.get(file_id, owner_of(request)))


@router.delete("/{file_id}", response_model=FileDeleted, operation_id="deleteFile")
def delete_file(request: Request, file_id: str) -> Any:
    """Delete a file; a job that was made with it keeps what it needs."""
    service_of(request).files.delete(file_id, owner_of(request))
    return {"id": file_id, "object": "file", "deleted": True}


@router.get("/{file_id}/content", response_class=StreamingResponse, responses=BYTES, operation_id="downloadFile")
def get_content(request: Request, file_id: str) -> StreamingResponse:
    """Return a file's bytes; a job's results are base64 at OpenAI's door, as hosted, and plain at Azure's."""
    files, owner = service_of(request).files, owner_of(request)
    record, path = files.get(file_id, owner), files.path(file_id, owner)
    try:
        chunks = _chunks(open_kept(path))
    except FileNotFoundError as error:
        raise not_found("File", file_id) from error
    if record.purpose == RESULTS and not request.url.path.startswith(AZURE):
        chunks = (base64.b64encode(chunk) for chunk in chunks)
    return StreamingResponse(chunks, media_type="application/octet-stream")


def _create_once(request: Request, stream: BinaryIO, given: dict[str, Any], key: str) -> Any:
    """Store a file unless this key has stored it; a crash at the worst moment leaves a file nobody was told of."""
    files, once, owner = service_of(request).files, once_of(request), owner_of(request)
    digest = hashlib.sha256(f"file\n{sorted(given.items())}\n".encode())
    for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
        digest.update(chunk)
    stream.seek(0)
    known = once.reply(owner, key, digest.hexdigest())
    if known is not None:
        return known
    made = files.create(stream, owner=owner, **given)
    told = None
    try:
        told = once.do(owner, key, digest.hexdigest(), work=lambda: file_shape(made))
    finally:
        # The same key may have come twice at the same time.
        if told is None or told["id"] != made.id:
            files.delete(made.id, owner)
    return told


def _chunks(file: Any) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
