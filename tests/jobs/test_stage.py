from pathlib import Path

from luthier.core.artifacts import Exports
from luthier.core.events import Event
from luthier.jobs.stage import stage
from luthier.recipe import Recipe


def works(calls: list[str], out: Path) -> Exports:
    calls.append("work")
    (out / "file").write_text(str(len(calls)))
    return Exports(folder=out, exported=[]).write(out)


def go(out: Path, calls: list[str], inputs: list[object]) -> Exports:
    return stage(out, Exports, lambda folder: works(calls, folder), inputs=inputs, emit=lambda event: None)


def test_the_same_inputs_are_not_worked_on_twice(tmp_path: Path) -> None:
    calls: list[str] = []
    recipe = Recipe(data={"path": "x"})
    first = go(tmp_path / "room", calls, [recipe, "hash"])
    assert go(tmp_path / "room", calls, [recipe, "hash"]) == first and calls == ["work"]
    assert first.inputs_sha256 and first.seconds > 0


def test_other_inputs_begin_in_an_empty_folder(tmp_path: Path) -> None:
    calls: list[str] = []
    go(tmp_path / "room", calls, ["a"])
    (tmp_path / "room" / "stale").write_text("")
    go(tmp_path / "room", calls, ["b"])
    assert calls == ["work", "work"] and not (tmp_path / "room" / "stale").exists()


def test_a_result_that_was_not_signed_yet_is_gone_on_with(tmp_path: Path) -> None:
    calls: list[str] = []
    works(calls, (tmp_path / "room").parent)
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "checkpoint").write_text("")
    works(calls, tmp_path / "room")
    assert go(tmp_path / "room", calls, ["a"]).inputs_sha256
    assert len(calls) == 3 and (tmp_path / "room" / "checkpoint").exists()


def test_what_happens_is_told(tmp_path: Path) -> None:
    heard: list[Event] = []
    for _ in range(2):
        stage(tmp_path / "room", Exports, lambda out: works([], out), inputs=[], emit=heard.append)
    assert [event.kind for event in heard] == ["start", "done", "note"]
