"""Tokenised data kept by content: the same rows, recipe, tokenizer and code are prepared once."""

import contextlib
import json
import os
import shutil
from pathlib import Path

from luthier.core.artifacts import Base
from luthier.core.errors import ResourceError
from luthier.core.files import disk_errors, sha256_of, sha256_of_json, whole_folder, write_atomic
from luthier.core.settings import cache_dir
from luthier.data.opened import PARTS
from luthier.data.preparing import tokens_of
from luthier.data.sources.find import find_sources
from luthier.data.spec import DataSpec
from luthier.model.load import context_length

SUMS = "sums.json"
ENTRIES = 16
"""How many data sets are kept; the one not used for longest goes first."""
CODE = ("data", "examples", "model/template.py", "model/messages.py", "model/reader.py", "model/bitext.py")
KEPT = ("card.json", *(f"examples/{part}.arrow" for part in PARTS))


def cache_key(spec: DataSpec, base: Base, *, seed: int) -> str | None:
    """Return the hash of everything the prepared rows depend on, or None where a source has no bytes here."""
    paths = [named for named in (spec.path, spec.validation_path, spec.test_path) if named]
    hashes = [source.sha256() for named in paths for source in find_sources(named)]
    if None in hashes:
        return None
    template = tokens_of(spec, base).sha256
    return sha256_of_json([hashes, spec.model_dump(mode="json"), template, context_length(base.folder), seed, _code()])


def restore(key: str, out: Path) -> bool:
    """Put the kept files into the run folder; files that no longer match their hashes are thrown away."""
    entry = _entry(key)
    if not (entry / SUMS).exists():
        return False
    if not _is_whole(entry):
        shutil.rmtree(entry, ignore_errors=True)
        return False
    with contextlib.suppress(OSError):
        os.utime(entry)
    _link(entry, out)
    return True


def keep(key: str, out: Path) -> None:
    """Keep the run folder's files for the next run; a cache that cannot be written is no error."""
    with contextlib.suppress(ResourceError), disk_errors(_entry(key)):
        _entry(key).parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(_entry(key)) as folder:
            _link(out, folder)
            write_atomic(folder / SUMS, json.dumps({name: sha256_of(folder / name) for name in KEPT}))
        _prune()


def _entry(key: str) -> Path:
    return cache_dir() / "tokens" / key


def _code() -> str:
    package = Path(__file__).parents[1]
    files = [file for name in CODE for file in sorted((package / name).rglob("*.py")) or [package / name]]
    return sha256_of_json([sha256_of(file) for file in files])


def _is_whole(entry: Path) -> bool:
    try:
        sums = json.loads((entry / SUMS).read_text())
        return all(sha256_of(entry / name) == sums[name] for name in KEPT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _link(source: Path, target: Path) -> None:
    for name in KEPT:
        with disk_errors(target / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).unlink(missing_ok=True)
            try:
                os.link(source / name, target / name)
            except OSError:
                # Another disk, or a file system without hard links.
                shutil.copyfile(source / name, target / name)


def _prune() -> None:
    entries = sorted(_entry("").iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[ENTRIES:]:
        shutil.rmtree(entry, ignore_errors=True)
