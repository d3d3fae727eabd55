"""A disk that fills up at any moment is one error, leaves nothing half-written, and the run goes on after freeing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.tiny_run import luthier as command
from tests.cli.tiny_run import make_tiny
from tests.model.test_base import write_gguf

import luthier
from luthier.core.errors import ResourceError
from luthier.core.files import sha256_of
from luthier.core.runfolder import ROOMS, RunFolder
from luthier.model.base import resolve_base

DISK_BYTES = 4 << 20
STEP_BYTES = 48 << 10
"""Space that is freed before each further try."""
NO_MOUNT = "a small disk cannot be mounted here (that needs root): a full disk is NOT tested"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that is a disk of its own, of a few megabytes in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    words = [mount, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True) if mount else None
    if done is None or done.returncode != 0:
        pytest.skip(NO_MOUNT)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    return make_tiny(tmp_path)


def leave(disk: Path, free_bytes: int) -> None:
    """Fill the disk with one file until only so much is free."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    size = shutil.disk_usage(disk).free - free_bytes
    filler.write_bytes(bytes(max(0, size)))


def room_at_work(run: RunFolder) -> str:
    """Return the first room that is not done, or `plan` where none was begun."""
    if not run.plan.exists():
        return "plan"
    return next((room for room in ROOMS if not (run.room(room) / "artifact.json").exists()), "end")


def weights(run: Path) -> str:
    return sha256_of(run / "train" / "weights" / "adapter_model.safetensors")


def test_every_room_survives_a_full_disk(home: Path, disk: Path) -> None:
    undisturbed = luthier.run(home / "recipe.yaml", out=home / "undisturbed")
    run, met = RunFolder(disk / "run"), []
    for free in range(0, DISK_BYTES, STEP_BYTES):
        leave(disk, free)
        try:
            result = luthier.run(home / "recipe.yaml", out=run.path, resume=True)
            break
        except ResourceError as error:
            assert error.what == "the disk is full" and error.hint and str(disk) in error.where["path"]
            met.append(room_at_work(run))
            assert not list(disk.rglob("*.tmp")) and not list(disk.rglob(".aside-*"))
    assert {"plan", "train", "export"} <= set(met), met
    assert weights(run.path) == weights(undisturbed.folder)
    assert result.report and result.report.systems[-1].metrics == undisturbed.report.systems[-1].metrics


def test_the_command_says_it_in_one_error(home: Path, disk: Path) -> None:
    leave(disk, STEP_BYTES)
    failed = command(home, "run", "recipe.yaml", "--out", str(disk / "run"))
    assert failed.returncode == 6 and "error: the disk is full" in failed.stderr and "hint: " in failed.stderr
    assert "Traceback" not in failed.stderr and failed.stdout == ""


def test_a_full_cache_is_done_without(home: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(disk))
    leave(disk, 0)
    result = luthier.run(home / "recipe.yaml", overrides=["evaluate=null", "export=[]"], out=home / "run")
    assert result.trained.steps == 3 and [path.name for path in disk.iterdir() if path.is_file()] == ["filler"]


def test_a_model_that_does_not_fit_into_the_cache(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(disk))
    write_gguf(tmp_path / "model.gguf")
    leave(disk, STEP_BYTES)
    with pytest.raises(ResourceError, match="the disk is full"):
        resolve_base(str(tmp_path / "model.gguf"), lambda event: None)
    assert not [path for path in (disk / "models").iterdir() if path.is_dir()]
    (disk / "filler").unlink()
    assert resolve_base(str(tmp_path / "model.gguf"), lambda event: None).folder.is_relative_to(disk)


def test_a_disk_that_cannot_be_written(home: Path, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(ResourceError, match="cannot write here") as caught:
        luthier.run(home / "recipe.yaml", out=disk / "run")
    assert "--out" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_someone_else(home: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    with pytest.raises(ResourceError, match="cannot write here"):
        luthier.run(home / "recipe.yaml", out=tmp_path / "theirs" / "run")
