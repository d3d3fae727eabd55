"""Uploads: a file that arrives in parts, put together when the client says in which order."""

import hashlib
import hmac
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from luthier.core.files import CHUNK_BYTES, disk_errors
from luthier.jobs.service.database import Database, as_record
from luthier.jobs.service.files import MAX_BYTES, Files, check_expiry, check_purpose, clean_name, too_large
from luthier.jobs.service.home import PRIVATE_FOLDER, Home, open_kept, open_new, remove
from luthier.jobs.service.ids import Id, new_id
from luthier.jobs.service.records import FileRecord, PartRecord, UploadRecord
from luthier.jobs.service.refusal import Refusal, not_found

MAX_PART_BYTES = 64 << 20
LIFE_S = 3600
"""How long an upload waits for its parts."""
LONGEST_TYPE = 255


class Uploads:
    """The uploads of all projects."""

    def __init__(self, home: Home, database: Database, files: Files) -> None:
        self.home = home
        self.database = database
        self.files = files
        self._ending = threading.Lock()
        """Held while an upload ends: its parts are not taken away while they are read."""

    def create(
        self,
        *,
        bytes: int,
        filename: str,
        mime_type: str,
        purpose: str,
        owner: str,
        expires_after_s: int | None = None,
    ) -> UploadRecord:
        """Begin an upload of so many bytes; it expires in an hour."""
        check_purpose(purpose)
        check_expiry(expires_after_s)
        if bytes < 1:
            raise Refusal("An upload must have at least 1 byte - 'bytes'", param="bytes")
        if bytes > MAX_BYTES:
            raise Refusal(f"An upload cannot be larger than {MAX_BYTES} bytes - 'bytes'", param="bytes")
        now, id = int(time.time()), new_id("upload_")
        upload = UploadRecord(
            id=id,
            created_at=now,
            bytes=bytes,
            filename=clean_name(filename),
            purpose=purpose,
            mime_type=mime_type[:LONGEST_TYPE],
            status="pending",
            expires_at=now + LIFE_S,
        )
        values = upload.model_dump(exclude={"status", "file_id"})
        self.database.query("add_upload", owner=owner, file_expires_after=expires_after_s, **values)
        return upload

    def get(self, id: str, owner: str) -> UploadRecord:
        """Return an upload as it stands now."""
        row = self.database.one("upload", id=id, owner=owner)
        if row is None:
            raise not_found("Upload", id, param="upload_id")
        upload = as_record(UploadRecord, row)
        late = upload.status == "pending" and upload.expires_at <= time.time()
        return upload.model_copy(update={"status": "expired"}) if late else upload

    def add_part(self, id: str, stream: BinaryIO, owner: str) -> PartRecord:
        """Store one part; parts may arrive in any order and at once."""
        upload = self._pending(id, owner)
        part, now = new_id("part_"), int(time.time())
        folder = self.home.upload(Id(upload.id))
        with disk_errors(folder):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            try:
                size = _receive(stream, folder / part)
                values = {"id": part, "upload_id": id, "created_at": now, "bytes": size}
                if self.database.one("add_part", **values) is None:
                    self._pending(id, owner)
                    raise Refusal(f"The parts are larger than the upload's {upload.bytes} bytes.", param="data")
            except BaseException:
                remove(folder / part)
                raise
        return PartRecord(id=part, created_at=now, upload_id=id)

    def complete(
        self, id: str, part_ids: Sequence[str], owner: str, md5: str | None = None
    ) -> tuple[UploadRecord, FileRecord]:
        """Make the parts a file, in the order given, once size and MD5 agree."""
        with self._ending:
            return self._complete(self._pending(id, owner), part_ids, owner, md5=md5)

    def _complete(
        self, upload: UploadRecord, part_ids: Sequence[str], owner: str, *, md5: str | None
    ) -> tuple[UploadRecord, FileRecord]:
        id = upload.id
        sizes = {row["id"]: row["bytes"] for row in self.database.query("parts", upload_id=id)}
        for part in part_ids:
            if part not in sizes:
                raise not_found("Part", part, param="part_ids")
        if len(set(part_ids)) < len(part_ids):
            raise Refusal("A part is named twice - 'part_ids'", param="part_ids")
        total = sum(sizes[part] for part in part_ids)
        if total != upload.bytes:
            what = f"The parts have {total} bytes, the upload was to have {upload.bytes}."
            raise Refusal(what, param="part_ids")

        file = self._joined(upload, part_ids, md5=md5)
        with self.database.transaction():
            (row,) = self.database.query("end_upload", id=id, status="completed", file_id=file.id)
            self.files.add(file, owner)
            self.database.query("delete_parts", upload_id=id)
        remove(self.home.upload(Id(id)))
        return as_record(UploadRecord, row), file

    def cancel(self, id: str, owner: str) -> UploadRecord:
        """End an upload and forget its parts."""
        with self._ending:
            self._pending(id, owner)
            (row,) = self.database.query("end_upload", id=id, status="cancelled", file_id=None)
            self._forget(id)
        return as_record(UploadRecord, row)

    def expire(self) -> None:
        """End the uploads whose time has come."""
        with self._ending:
            for row in self.database.query("expire_uploads", now=int(time.time())):
                self._forget(row["id"])

    def sweep(self) -> None:
        """Remove what a crash left: folders of uploads that are not pending, parts that no row knows."""
        pending = {row["id"] for row in self.database.query("pending_uploads")}
        for folder in self.home.uploads.iterdir():
            if folder.name not in pending:
                remove(folder)
                continue
            known = {row["id"] for row in self.database.query("parts", upload_id=folder.name)}
            for path in folder.iterdir():
                if path.name not in known:
                    remove(path)

    def _pending(self, id: str, owner: str) -> UploadRecord:
        upload = self.get(id, owner)
        if upload.status != "pending":
            raise Refusal(f"Upload {id} is {upload.status}; only a pending upload can be changed.", param="upload_id")
        return upload

    def _joined(self, upload: UploadRecord, part_ids: Sequence[str], *, md5: str | None) -> FileRecord:
        """Write the file's bytes; it becomes a file only with its row."""
        folder, digest = self.home.upload(Id(upload.id)), hashlib.md5(usedforsecurity=False)
        row = self.database.query("upload_life", id=upload.id)[0]
        id, now = new_id("file-"), int(time.time())
        chunks = _hashed((folder / Id(part) for part in part_ids), digest.update)
        size = self.files.write(id, chunks, purpose=upload.purpose)
        if md5 is not None and not hmac.compare_digest(md5.strip().lower().encode(), digest.hexdigest().encode()):
            remove(self.home.file(id))
            raise Refusal("The MD5 of the parts is not the one given - 'md5'", param="md5")
        life = row["file_expires_after"]
        return FileRecord(
            id=id,
            created_at=now,
            bytes=size,
            filename=upload.filename,
            purpose=upload.purpose,
            expires_at=now + life if life else None,
        )

    def _forget(self, id: str) -> None:
        self.database.query("delete_parts", upload_id=id)
        remove(self.home.upload(Id(id)))


def _receive(stream: BinaryIO, path: Path) -> int:
    size = 0
    with open_new(path) as file:
        while chunk := stream.read(CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_PART_BYTES:
                raise too_large(MAX_PART_BYTES)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if not size:
        raise Refusal("A part cannot be empty - 'data'", param="data")
    return size


def _hashed(paths: Iterable[Path], update: Callable[[bytes], object]) -> Iterator[bytes]:
    for path in paths:
        with open_kept(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                update(chunk)
                yield chunk
