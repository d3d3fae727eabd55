"""Hashes of large files, remembered by path, size and time of change, so that a second run need not read them."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from luthier.core.errors import ResourceError
from luthier.core.files import sha256_of, sha256_of_json, write_atomic
from luthier.core.settings import cache_dir


def remembered_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file, from memory where the file is unchanged."""
    state = path.stat()
    key = sha256_of_json([str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino])
    memory = cache_dir() / "digests" / key
    if memory.exists():
        return memory.read_text()
    digest = sha256_of(path)
    with contextlib.suppress(ResourceError):
        write_atomic(memory, digest)
    return digest


def weights_sha256(files: Sequence[Path]) -> str:
    """Return one hash over several weight files, by name and content."""
    return sha256_of_json({path.name: remembered_sha256(path) for path in files})
