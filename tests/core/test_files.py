import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core.errors import ResourceError
from luthier.core.files import disk_errors, whole_folder, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep" / "a.txt", "old")
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "deep" / "a.txt", 5)
    assert (tmp_path / "deep" / "a.txt").read_text() == "old" and names(tmp_path / "deep") == ["a.txt"]


def test_a_folder_that_failed_leaves_what_was_there(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "made") as folder:
        (folder / "one").write_text("1")
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "made") as folder:
        (folder / "two").write_text("2")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["made"] and names(tmp_path / "made") == ["one"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process in (dead.pid, os.getpid(), os.getppid()):
        (tmp_path / f".made.{process}.tmp").mkdir()
    with whole_folder(tmp_path / "made"):
        pass
    assert names(tmp_path) == [f".made.{os.getppid()}.tmp", "made"], "only a living process may still be writing"


@pytest.mark.parametrize(
    ("raised", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot write here"),
        (OSError(errno.EIO, "Input/output error"), "cannot write"),
    ],
)
def test_failures_of_the_disk_say_where_and_what_to_do(tmp_path: Path, raised: Exception, what: str) -> None:
    with pytest.raises(ResourceError, match=what) as caught, disk_errors(tmp_path):
        raise raised
    assert caught.value.where == {"path": str(tmp_path)} and caught.value.hint and caught.value.exit_status == 6


def test_in_the_cache_the_hint_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path))
    with pytest.raises(ResourceError) as caught, disk_errors(tmp_path / "models" / "x"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert "LUTHIER_CACHE" in caught.value.hint


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path):
        raise ZeroDivisionError
