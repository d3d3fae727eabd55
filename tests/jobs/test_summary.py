from pathlib import Path

import pytest
from tests.jobs.fakes import FakeRooms, recipe_file

from luthier.core.runfolder import RunFolder
from luthier.jobs.pipeline import run_recipe
from luthier.jobs.summary import differences, summarise
from luthier.recipe_io.read import load_recipe


def test_a_finished_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "one")
    run_recipe(load_recipe(recipe_file(tmp_path)), run, rooms=FakeRooms().rooms())
    summary = summarise(run)
    assert (summary.state, summary.steps, summary.metric) == ("finished", 2, "accuracy")
    assert summary.results == {"tuned": "0.800 [0.700–0.900]"}


@pytest.mark.parametrize(
    ("room", "state"),
    [("data", "unfinished: data"), ("train", "unfinished: train, step 1 of 2"), ("export", "unfinished: export")],
)
def test_an_unfinished_run_says_where_it_stopped(tmp_path: Path, room: str, state: str) -> None:
    run = RunFolder(tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(load_recipe(recipe_file(tmp_path)), run, rooms=FakeRooms(fails=room).rooms())
    assert summarise(run).state == state


def test_runs_differ_in_what_was_set(tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        runs.append(RunFolder(tmp_path / str(seed)))
        run_recipe(load_recipe(recipe_file(tmp_path), [f"seed={seed}"]), runs[-1], rooms=FakeRooms().rooms())
    assert [(row.path, row.values) for row in differences(runs)] == [("seed", ("1", "2"))]


def test_a_run_of_another_version_does_not_hide_the_others(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "old")
    run_recipe(load_recipe(recipe_file(tmp_path)), run, rooms=FakeRooms().rooms())
    run.recipe.write_text("data: rows.jsonl\ntrain: {gone: 1}\n")
    assert summarise(run).state == "unreadable: unknown key `gone`"
