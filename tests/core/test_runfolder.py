import os
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core.errors import RecipeError, ResourceError
from luthier.core.runfolder import RunFolder, base_name, find_run, new_run, runs_of

HOLD = """
import sys, time
from pathlib import Path
from luthier.core.runfolder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def made(root: Path, name: str, *, age: int = 0) -> RunFolder:
    run = new_run(root, name)
    run.recipe.write_text("data: x\n")
    run.events.touch()
    os.utime(run.recipe, (1_000_000 - age, 1_000_000 - age))
    return run


def test_new_runs_are_numbered(tmp_path: Path) -> None:
    assert [new_run(tmp_path / "runs", "tones").path.name for _ in range(3)] == ["tones", "tones-2", "tones-3"]


def test_runs_are_found_newest_first(tmp_path: Path) -> None:
    made(tmp_path, "a", age=5), made(tmp_path, "a"), made(tmp_path, "b", age=9)
    (tmp_path / "no-run").mkdir()
    assert [run.path.name for run in runs_of(tmp_path)] == ["a-2", "a", "b"]
    assert [run.path.name for run in runs_of(tmp_path, "a")] == ["a-2", "a"]
    assert runs_of(tmp_path / "none") == []


def test_base_name() -> None:
    assert [base_name(name) for name in ("tones", "tones-2", "a-b", "a-2-3")] == ["tones", "tones", "a-b", "a-2"]


def test_a_run_is_found_by_name_or_folder(tmp_path: Path) -> None:
    run = made(tmp_path, "tones")
    assert find_run("tones", tmp_path) == run and find_run(str(run.path), tmp_path / "other") == run
    with pytest.raises(RecipeError, match="tones"):
        find_run("tone", tmp_path)
    with pytest.raises(RecipeError, match="no runs"):
        find_run("tone", tmp_path / "empty")


def test_a_recipe_alone_is_no_run(tmp_path: Path) -> None:
    made(tmp_path, "tones").events.unlink()
    assert runs_of(tmp_path) == []
    with pytest.raises(RecipeError, match="no run"):
        find_run(str(tmp_path / "tones"), tmp_path)


def test_the_lock_is_held_by_one_process_and_freed_by_sigkill(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ResourceError, match="another process"), RunFolder(tmp_path).locked():
        pass
    holder.kill()
    holder.wait()
    with RunFolder(tmp_path).locked():
        assert (tmp_path / ".lock").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"), RunFolder(tmp_path / "file" / "run").locked():
        pass


@pytest.mark.parametrize(
    ("log", "kept"), [(b'{"a": 1}\n{"b', b'{"a": 1}\n'), (b'{"a', b""), (b"x\n", b"x\n"), (b"", b"")]
)
def test_a_half_written_event_is_cut_off(tmp_path: Path, log: bytes, kept: bytes) -> None:
    run = RunFolder(tmp_path)
    run.events.write_bytes(log)
    run.mend_events()
    assert run.events.read_bytes() == kept


def test_discard_leaves_what_others_put_there(tmp_path: Path) -> None:
    mine, shared = made(tmp_path, "mine"), made(tmp_path, "shared")
    (mine.room("data")).mkdir()
    (shared.path / "notes.txt").write_text("keep")
    mine.discard(), shared.discard()
    assert not mine.path.exists() and [path.name for path in shared.path.iterdir()] == ["notes.txt"]
