import json
import shutil
from pathlib import Path

import pytest
from tests.jobs.fakes import FakeRooms, recipe_file

from luthier.core.errors import CheckpointError, DataError, RecipeError, ResourceError, TrainingError
from luthier.core.events import read_events
from luthier.core.runfolder import RunFolder
from luthier.jobs.pipeline import evaluate_run, run_recipe
from luthier.recipe_io.read import load_recipe

ALL = ["facts", "data", "train", "evaluate", "export"]


def test_a_run_opens_every_room_once_and_leaves_its_folder(tmp_path: Path) -> None:
    recipe, fakes, run = load_recipe(recipe_file(tmp_path)), FakeRooms(), RunFolder(tmp_path / "run")
    result = run_recipe(recipe, run, rooms=fakes.rooms())
    assert fakes.opened == ALL
    assert result.report and result.report.conclusion and result.exports
    kept = {path.name for path in run.path.iterdir()}
    assert {"recipe.yaml", "plan.yaml", "events.jsonl", "manifest.json", "README.md", "data", "train"} <= kept
    manifest = json.loads(run.manifest.read_text())
    assert manifest["finished_at"] and manifest["packages"]["pydantic"] and list(manifest["data_files"].values())
    turns = [(event.kind, event.message) for event in read_events(run.events) if event.room == "jobs"]
    rooms = ALL[1:]
    assert turns == [turn for room in rooms for turn in (("start", room), ("done", room))]
    assert list((run.path / "tensorboard").iterdir())


def test_the_same_again_opens_no_room(tmp_path: Path) -> None:
    recipe, fakes, run = load_recipe(recipe_file(tmp_path)), FakeRooms(), RunFolder(tmp_path / "run")
    first = run_recipe(recipe, run, rooms=fakes.rooms())
    fakes.opened.clear()
    again = run_recipe(recipe, run, rooms=fakes.rooms())
    assert fakes.opened == [] and again == first


def test_several_seeds_train_several_times_and_are_measured_together(tmp_path: Path) -> None:
    recipe, fakes, run = load_recipe(recipe_file(tmp_path), ["seeds=3"]), FakeRooms(), RunFolder(tmp_path / "run")
    result = run_recipe(recipe, run, rooms=fakes.rooms())
    assert fakes.opened == ["facts", "data", "train", "train", "train", "evaluate", "export"]
    seeds = [path.parent.name for path in result.trained.again]
    assert seeds == [str(recipe.seed + 1), str(recipe.seed + 2)]
    fakes.opened.clear()
    assert run_recipe(recipe, run, rooms=fakes.rooms()) == result and fakes.opened == []


def test_a_training_with_another_seed_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    recipe, fakes, run = load_recipe(recipe_file(tmp_path), ["seeds=2"]), FakeRooms(), RunFolder(tmp_path / "run")
    run_recipe(recipe, run, rooms=fakes.rooms())
    (run.room("train") / "seeds" / str(recipe.seed + 1) / "artifact.json").unlink()
    fakes.opened.clear()
    run_recipe(recipe, run, rooms=fakes.rooms())
    assert fakes.opened == ["train"]


@pytest.mark.parametrize("room", ALL[1:])
def test_after_an_interruption_only_the_rest_is_done(tmp_path: Path, room: str) -> None:
    recipe, fakes, run = load_recipe(recipe_file(tmp_path)), FakeRooms(fails=room), RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, run, rooms=fakes.rooms())
    fakes.opened.clear()
    run_recipe(recipe, run, rooms=fakes.rooms())
    assert fakes.opened == ALL[ALL.index(room) :]
    assert (run.room("train") / "checkpoint").read_text() == "kept"


def test_a_plan_runs_again_to_the_same_plan(tmp_path: Path) -> None:
    recipe, run = load_recipe(recipe_file(tmp_path)), RunFolder(tmp_path / "run")
    plan = run_recipe(recipe, run, rooms=FakeRooms().rooms()).plan
    fakes, second = FakeRooms(), RunFolder(tmp_path / "again")
    again = run_recipe(load_recipe(run.plan), second, rooms=fakes.rooms()).plan
    assert again == plan and "facts" not in fakes.opened
    assert second.plan.read_text() == run.plan.read_text()


def test_a_moved_run_is_evaluated_where_it_lies(tmp_path: Path) -> None:
    recipe, run = load_recipe(recipe_file(tmp_path)), RunFolder(tmp_path / "run")
    run_recipe(recipe, run, rooms=FakeRooms().rooms())
    moved = RunFolder(shutil.move(run.path, tmp_path / "elsewhere"))
    fakes = FakeRooms()
    report = evaluate_run(moved, rooms=fakes.rooms())
    assert fakes.opened == [] and report.folder == moved.room("evaluate")
    evaluate_run(moved, overrides=("evaluate.max_rows=9",), rooms=fakes.rooms())
    assert fakes.opened == ["evaluate"]
    assert load_recipe(moved.plan).evaluate.max_rows == 9


def test_evaluate_sets_nothing_but_the_evaluation(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run_recipe(load_recipe(recipe_file(tmp_path)), run, rooms=FakeRooms().rooms())
    with pytest.raises(RecipeError, match="only `evaluate"):
        evaluate_run(run, overrides=("train.epochs=9",), rooms=FakeRooms().rooms())


def test_a_run_without_evaluation_can_be_evaluated_later(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, "data: rows.jsonl\nevaluate: null\nexport: []\n"))
    run, fakes = RunFolder(tmp_path / "run"), FakeRooms()
    result = run_recipe(recipe, run, rooms=fakes.rooms())
    assert result.report is None and result.exports is None and fakes.opened == ["facts", "data", "train"]
    assert "Not measured" in run.card.read_text()
    assert evaluate_run(run, rooms=fakes.rooms()).test_rows == 100
    assert "The tuned model is better." in run.card.read_text()
    assert load_recipe(run.plan).evaluate.metrics[0] == "accuracy"


def test_an_untrained_run_cannot_be_evaluated(tmp_path: Path) -> None:
    run, fakes = RunFolder(tmp_path / "run"), FakeRooms(fails="train")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(load_recipe(recipe_file(tmp_path)), run, rooms=fakes.rooms())
    with pytest.raises(CheckpointError, match="has not finished training"):
        evaluate_run(run, rooms=fakes.rooms())


def test_changed_inputs_are_not_mixed_into_a_run(tmp_path: Path) -> None:
    recipe, run, fakes = load_recipe(recipe_file(tmp_path)), RunFolder(tmp_path / "run"), FakeRooms(fails="train")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, run, rooms=fakes.rooms())
    (tmp_path / "rows.jsonl").write_text("{}\n")
    fakes.weights = "w2"
    with pytest.raises(CheckpointError) as caught:
        run_recipe(recipe, run, rooms=fakes.rooms())
    assert "rows.jsonl" in str(caught.value) and "the weights of" in str(caught.value)
    assert (run.room("train") / "checkpoint").exists()


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    recipe, run = load_recipe(recipe_file(tmp_path)), RunFolder(tmp_path / "run")
    with run.locked(), pytest.raises(ResourceError, match="another process"):
        run_recipe(recipe, RunFolder(run.path), rooms=FakeRooms().rooms())


def test_an_event_cut_by_a_crash_is_mended(tmp_path: Path) -> None:
    recipe, run = load_recipe(recipe_file(tmp_path)), RunFolder(tmp_path / "run")
    run_recipe(recipe, run, rooms=FakeRooms().rooms())
    with run.events.open("a") as log:
        log.write('{"room": "tr')
    run_recipe(recipe, run, rooms=FakeRooms().rooms())
    assert len(list(read_events(run.events))) == len(run.events.read_text().splitlines())


@pytest.mark.parametrize(("room", "error"), [("facts", KeyboardInterrupt), ("facts", DataError), ("data", DataError)])
def test_a_run_that_failed_before_its_data_was_ready_leaves_nothing(
    tmp_path: Path, room: str, error: type[BaseException]
) -> None:
    fakes, run = FakeRooms(fails=room, error=error("no")), RunFolder(tmp_path / "run")
    with pytest.raises(error):
        run_recipe(load_recipe(recipe_file(tmp_path)), run, rooms=fakes.rooms())
    assert not run.path.exists()


def test_a_run_that_failed_later_keeps_what_it_has(tmp_path: Path) -> None:
    fakes, run = FakeRooms(fails="train", error=TrainingError("no")), RunFolder(tmp_path / "run")
    with pytest.raises(TrainingError):
        run_recipe(load_recipe(recipe_file(tmp_path)), run, rooms=fakes.rooms())
    assert (run.room("train") / "checkpoint").exists()


def test_empty_splits_are_told_before_training(tmp_path: Path) -> None:
    fakes = FakeRooms(rows={"train": 800, "validation": 100, "test": 0})
    with pytest.raises(DataError, match="no row is left for test"):
        run_recipe(load_recipe(recipe_file(tmp_path)), RunFolder(tmp_path / "run"), rooms=fakes.rooms())
    assert fakes.opened == ["facts", "data"]
