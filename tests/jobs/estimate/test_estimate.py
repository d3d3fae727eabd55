import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from tests.cli.tiny_run import make_tiny

from luthier.advise.estimate.result import PlanEstimate
from luthier.advise.estimate.whole import Machine
from luthier.core.artifacts import Base, Prepared
from luthier.core.errors import DataError, LuthierError, ResourceError
from luthier.core.events import Event
from luthier.jobs.estimate import estimate_plan
from luthier.jobs.estimate.child import FOUND, TaskWatch, answering
from luthier.jobs.estimate.door import Before, _in_one_process
from luthier.jobs.estimate.measuring import _found, _run, sample_rows
from luthier.jobs.estimate.work import count
from luthier.jobs.prepare import settle
from luthier.jobs.rooms import real_rooms
from luthier.recipe import Plan
from luthier.recipe_io.read import load_recipe

SMALL = Machine("a small machine", 1, 50_000_000, 10_000_000_000)


def deaf(event: Event) -> None:
    pass


@cache
def settled(*overrides: str) -> tuple[Plan, Base, Prepared]:
    folder = make_tiny(Path(mkdtemp()))
    recipe, rooms = load_recipe(folder / "recipe.yaml", overrides), real_rooms()
    base = rooms.base(recipe.base_model, deaf)
    plan = settle(recipe, base, rooms, deaf)
    return plan, base, rooms.data(plan.data, base, folder / "data", deaf, seed=plan.seed)


@cache
def whole() -> tuple[PlanEstimate, list[str]]:
    heard: list[str] = []
    return estimate_plan(*settled(), lambda event: heard.append(event.message)), heard


def test_a_tiny_plan_is_measured_in_a_process_of_its_own() -> None:
    found, heard = whole()
    assert found.fits and found.because["train_seconds"].source == "measured"
    assert 100_000_000 < found.peak_memory_bytes < 3_000_000_000
    assert found.train_seconds > 0 and found.evaluate_seconds > 0 and found.export_seconds > 0
    assert found.disk["exports"] > 0 and found.disk["checkpoints"] > 0
    assert "timing micro-batches of this plan" in heard
    assert PlanEstimate.model_validate_json(found.model_dump_json()) == found


def test_what_the_run_keeps_of_preparing_is_added() -> None:
    from tests.advise.estimate.made import MEASURED

    assert _in_one_process(MEASURED, Before(1.0, 600_000_000)).train_bytes == 1_900_000_000
    assert _in_one_process(MEASURED, Before(1.0)) == MEASURED
    assert _in_one_process(MEASURED, Before(1.0, 9_000_000_000)).train_bytes < 2_100_000_000


def test_the_plan_is_counted_as_the_loop_does_it() -> None:
    plan, _, prepared = settled()
    counted = count(plan, prepared, fast=True, share=True)
    work = counted.work
    assert (work.steps, work.sampled_steps, work.sampled_rows) == (3, 3, 12)
    assert (work.validations, work.checkpoints, work.kept_checkpoints) == (4, 3, 2)
    assert sorted(row for micro in counted.picks for row in micro.rows) and work.systems == 3
    assert counted.picks[0].shape == work.heaviest
    assert work.test_rows == 6 and work.most_new_tokens > work.answer_tokens


def test_the_plain_step_pays_for_pads() -> None:
    plan, _, prepared = settled()
    fast, plain = (count(plan, prepared, fast=fast, share=fast).work for fast in (True, False))
    assert sum(shape.tokens for shape in plain.micro_batches) > sum(shape.tokens for shape in fast.micro_batches)
    assert all(shape.targets == shape.tokens for shape in plain.micro_batches)


def test_long_runs_are_sampled() -> None:
    plan, _, prepared = settled()
    long = plan.model_copy(update={"train": plan.train.model_copy(update={"steps": 5000, "checkpoint_every": 700})})
    work = count(long, prepared, fast=True, share=True).work
    assert work.sampled_steps == 400 and work.stretch == 12.5 and work.checkpoints == 8


def test_snapshots_and_their_checkpoints_are_counted() -> None:
    plan, _, prepared = settled()
    train = plan.train.model_copy(update={"steps": 30, "snapshots": 2, "checkpoint_every": 10})
    work = count(plan.model_copy(update={"train": train}), prepared, fast=True, share=True).work
    assert (work.snapshots, work.kept_snapshots) == (3, 2) and work.checkpoints == 5


def test_without_memory_nothing_is_tried_and_changes_are_named() -> None:
    plan, base, prepared = settled()
    found = estimate_plan(plan, base, prepared, machine=SMALL)
    assert not found.fits and found.because["peak_memory_bytes"].source == "computed"
    assert found.available_memory_bytes == 50_000_000 and found.changes


def test_no_row_is_an_error_a_person_can_read() -> None:
    plan, base, prepared = settled()
    with pytest.raises(DataError, match="no rows to train on"):
        estimate_plan(plan, base, prepared.model_copy(update={"rows": {"train": 0}}))


@pytest.mark.parametrize(("rows", "samples"), [(0, []), (1, [1]), (5, [1, 4]), (40, [2, 10]), (5000, [12, 48])])
def test_how_many_rows_are_sampled(rows: int, samples: list[int]) -> None:
    assert sample_rows(rows) == samples


def test_an_error_of_the_child_is_raised_as_it_was(tmp_path: Path) -> None:
    with answering(tmp_path):
        raise DataError("bad rows", where={"file": "x"}, hint="mend them")
    with pytest.raises(DataError) as caught:
        _found(json.loads((tmp_path / FOUND).read_text()))
    assert caught.value.where == {"file": "x"} and caught.value.hint == "mend them"


def test_a_child_that_breaks_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        _run(tmp_path / "nowhere", deaf)
    assert isinstance(caught.value, LuthierError) and caught.value.hint and "Traceback" not in str(caught.value)


def test_tasks_are_timed_by_their_events() -> None:
    watch = TaskWatch()
    for task in ("answers", "answers", "labels"):
        watch(Event(room="evaluate", kind="progress", data={"system": "tuned", "task": task}))
    assert [(task["system"], task["name"]) for task in watch.tasks()] == [("tuned", "answers"), ("tuned", "labels")]
