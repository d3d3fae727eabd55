"""Files: streamed to the disk under a limit, whole or not there, and never at a path that a client chose."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from luthier.core.files import CHUNK_BYTES, disk_errors, fsync_path
from luthier.jobs.service.database import Database, as_page, as_record, check_limit
from luthier.jobs.service.home import Home, open_kept, open_new, remove
from luthier.jobs.service.ids import Id, new_id
from luthier.jobs.service.records import FileRecord, Page
from luthier.jobs.service.refusal import Refusal, not_found

MAX_BYTES = 512 << 20
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What an upload may be for."""
RESULTS = "fine-tune-results"
EXPIRES_AFTER_S = (3600, 2_592_000)
LONGEST_NAME = 255
BOM = b"\xef\xbb\xbf"
CHECKED_LINES = 20
"""Lines looked at while the client waits; all of them are read before a job is queued."""
CHECKED_BYTES = 1 << 20


class Files:
    """The files of all projects; a file of another project is not there."""

    def __init__(self, home: Home, database: Database) -> None:
        self.home = home
        self.database = database

    def create(
        self, stream: BinaryIO, *, filename: str, purpose: str, owner: str, expires_after_s: int | None = None
    ) -> FileRecord:
        """Store what the stream holds, at most 512 MB of it."""
        check_purpose(purpose)
        check_expiry(expires_after_s)
        return self.keep(
            _chunks(stream), filename=filename, purpose=purpose, owner=owner, expires_after_s=expires_after_s
        )

    def keep(
        self, chunks: Iterator[bytes], *, filename: str, purpose: str, owner: str, expires_after_s: int | None = None
    ) -> FileRecord:
        """Store chunks as a new file: first its bytes, durably, then the row that makes it one."""
        id = new_id("file-")
        size = self.write(id, chunks, purpose=purpose)
        now = int(time.time())
        record = FileRecord(
            id=id,
            created_at=now,
            bytes=size,
            filename=clean_name(filename),
            purpose=purpose,
            expires_at=now + expires_after_s if expires_after_s else None,
        )
        self.add(record, owner)
        return record

    def write(self, id: Id, chunks: Iterator[bytes], *, purpose: str) -> int:
        """Write a file's bytes, all of them or none, and return how many they are."""
        path, beside = self.home.file(id), self.home.files / f".{new_id('file-')}"
        with disk_errors(path):
            try:
                with open_new(beside) as file:
                    size = _copy(chunks, file)
                    os.fsync(file.fileno())
                if purpose == "fine-tune":
                    check_first_lines(beside)
                beside.replace(path)
                fsync_path(self.home.files)
            finally:
                beside.unlink(missing_ok=True)
        return size

    def add(self, record: FileRecord, owner: str) -> None:
        """Make bytes already written a file."""
        try:
            self.database.query("add_file", owner=owner, **record.model_dump(exclude={"status", "status_details"}))
        except BaseException:
            remove(self.home.file(Id(record.id)))
            raise

    def get(self, id: str, owner: str) -> FileRecord:
        """Return a file's record."""
        row = self.database.one("file", id=id, owner=owner, now=int(time.time()))
        if row is None:
            raise not_found("File", id)
        return as_record(FileRecord, row)

    def path(self, id: str, owner: str) -> Path:
        """Return where a file's bytes lie; open them with `home.open_kept`."""
        return self.home.file(Id(self.get(id, owner).id))

    def list(
        self,
        owner: str,
        *,
        purpose: str | None = None,
        limit: int = 10_000,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> Page[FileRecord]:
        """Return a project's files, newest first unless asked otherwise."""
        if after is not None and self.database.one("file", id=after, owner=owner, now=0) is None:
            raise not_found("File", after, param="after")
        values = {"owner": owner, "purpose": purpose, "after": after, "now": int(time.time())}
        name = "files_down" if order == "desc" else "files_up"
        rows = self.database.query(name, limit=check_limit(limit), **values)
        return as_page(rows, limit, lambda row: as_record(FileRecord, row))

    def delete(self, id: str, owner: str) -> None:
        """Remove a file; jobs that were made with it keep their own hold on the bytes."""
        if self.database.one("delete_file", id=id, owner=owner) is None:
            raise not_found("File", id)
        remove(self.home.file(Id(id)))

    def expire(self) -> None:
        """Remove the files whose time has come."""
        for row in self.database.query("delete_expired_files", now=int(time.time())):
            remove(self.home.file(Id(row["id"])))

    def sweep(self) -> None:
        """Remove what a crash left: bytes that no row knows."""
        known = {row["id"] for row in self.database.query("file_ids")}
        for path in self.home.files.iterdir():
            if path.name not in known:
                remove(path)


def check_purpose(purpose: str) -> None:
    """Refuse what no upload can be for."""
    if purpose not in PURPOSES:
        known = ", ".join(f"'{name}'" for name in PURPOSES)
        raise Refusal(f"'{purpose[:80]}' is not one of [{known}] - 'purpose'", param="purpose")


def check_expiry(seconds: int | None) -> None:
    """Refuse an expiry outside an hour and thirty days."""
    low, high = EXPIRES_AFTER_S
    if seconds is not None and not low <= seconds <= high:
        raise Refusal(
            f"Invalid expires_after: seconds must be between {low} and {high}.", param="expires_after.seconds"
        )


def clean_name(filename: str) -> str:
    """Return a client's file name cut to a sensible length; it is only ever shown."""
    return filename[:LONGEST_NAME] or "file"


def too_large(limit: int = MAX_BYTES) -> Refusal:
    """Return the refusal of more bytes than are taken."""
    return Refusal(f"Maximum content size limit of {limit} bytes exceeded.", status=413, param="file")


def check_first_lines(path: Path) -> None:
    """Refuse a training file whose first lines are no JSON objects, in the hosted service's words."""
    with open_kept(path) as file:
        head = file.read(CHECKED_BYTES).removeprefix(BOM)
    if not head.strip():
        raise Refusal("The file is empty.", param="file")
    lines = head.split(b"\n")
    # A line that may go on behind what was read is left to the full check.
    whole = lines if len(head) < CHECKED_BYTES - len(BOM) else lines[:-1]
    for number, line in enumerate(whole[:CHECKED_LINES], 1):
        if line.strip() and not _is_object(line):
            raise Refusal(
                "Expected file to have JSONL format, where every line is a JSON dictionary. "
                f'Line {number} is not a dictionary (HINT: line starts with: "{_first(line)}...").',
                param="file",
            )


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode()), dict)
    except (RecursionError, ValueError):
        return False


def _first(line: bytes) -> str:
    return line.decode(errors="replace").lstrip()[:1]


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _copy(chunks: Iterator[bytes], file: BinaryIO) -> int:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_BYTES:
            raise too_large()
        file.write(chunk)
    file.flush()
    return size
