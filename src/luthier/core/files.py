"""Files that are whole or absent: atomic writes, durable folders, hashes."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from luthier.core.errors import ResourceError
from luthier.core.settings import cache_dir

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(value: object) -> str:
    """Return the hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fsync_path(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into a ResourceError that names it."""
    try:
        yield
    except OSError as error:
        raise _explained(error, path) from error
    except Exception as error:
        # safetensors raises its own type, with the system's error only in the text.
        if "os error 28" in str(error) or "No space left" in str(error):
            raise _explained(OSError(errno.ENOSPC, str(error)), path) from error
        raise


def _explained(error: OSError, path: Path) -> ResourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, then run it again (with `--resume` where a run was begun)"
        return ResourceError("the disk is full", where={"path": path}, hint=hint)
    is_cache = path.absolute().is_relative_to(cache_dir().absolute())
    hint = "set LUTHIER_CACHE to a folder you may write" if is_cache else "choose another folder with `--out`"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError("cannot write here", where={"path": path}, why=error.strerror, hint=hint)
    return ResourceError("cannot write", where={"path": path}, why=str(error), hint=hint)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see either the old content or all of the new."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            fsync_path(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def _remove_left_behind(path: Path) -> None:
    """Remove what processes that were killed had begun to write beside `path`."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        number = left.name.split(".")[-2]
        if number == str(os.getpid()) or not (number.isdigit() and _is_alive(int(number))):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextlib.contextmanager
def begun_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; what is not moved away with `settle_folder` by the end vanishes."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        _remove_left_behind(path)
        beside.mkdir(parents=True)
        try:
            yield beside
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def settle_folder(folder: Path, path: Path) -> None:
    """Give a finished folder its name, in place of what was there; its files are on the disk first."""
    for file in sorted(folder.rglob("*")):
        fsync_path(file)
    fsync_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        shutil.rmtree(path)
    folder.replace(path)
    fsync_path(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path`; on success it becomes `path`, on failure it vanishes."""
    with begun_folder(path) as folder:
        yield folder
        settle_folder(folder, path)
