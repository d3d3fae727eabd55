"""The desk of the diagnosis: unfinished runs, what lies in the folder afterwards, and findings applied to a recipe."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from tests.jobs.fakes import FakeRooms, recipe_file

from luthier.advise.diagnose.checks import CHECKS
from luthier.advise.diagnose.finding import Diagnosis, Finding
from luthier.core.errors import LuthierError, RecipeError, TrainingError
from luthier.core.runfolder import RunFolder
from luthier.jobs.diagnose.apply import apply_diagnosis
from luthier.jobs.diagnose.desk import FILE, PLOT, diagnose_run, gather
from luthier.jobs.pipeline import run_recipe
from luthier.recipe_io.read import load_recipe

BROKEN = "the loss is nan, the gradient norm nan"


def unfinished(folder: Path, fails: str) -> RunFolder:
    """Return a run of rooms that do nothing, broken off in one of them."""
    run, rooms = RunFolder(folder / "run"), FakeRooms(fails=fails, error=TrainingError("broken"))
    with pytest.raises(LuthierError):
        run_recipe(load_recipe(recipe_file(folder)), run, rooms=rooms.rooms())
    return run


def metrics(run: RunFolder, steps: int) -> None:
    path = run.room("train") / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"step": 0, "steps": 50, "validation_loss": 3.0}]
    rows += [{"step": step, "steps": 50, "loss": 3 - step / 50, "grad_norm": 1.0} for step in range(1, steps + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 51, "los')


def test_a_run_that_broke_in_training_lists_what_was_not_checked(tmp_path: Path) -> None:
    run = unfinished(tmp_path, "train")
    metrics(run, 30)
    diagnosis = diagnose_run(run)
    told = {check.name: check.why for check in diagnosis.not_checked}
    assert diagnosis.state.startswith("unfinished: train")
    assert told["bad-labels"] == "training has not finished yet"
    assert told["never-stops"] == "the run is not evaluated yet"
    assert told["dead-tensors"] == "there is no checkpoint yet"
    checked = {*told, *diagnosis.healthy, *(finding.name for finding in diagnosis.findings)}
    assert checked == {check.name for check in CHECKS}


def test_a_measured_run_says_what_it_needs_before_it_is_planned(tmp_path: Path) -> None:
    diagnosis = diagnose_run(RunFolder(tmp_path))
    assert not diagnosis.healthy and not diagnosis.findings and len(diagnosis.not_checked) == len(CHECKS)
    assert diagnosis.plot is None and (tmp_path / FILE).exists()


def test_the_result_lies_in_the_run_with_a_picture(tmp_path: Path) -> None:
    run = unfinished(tmp_path, "train")
    metrics(run, 30)
    diagnosis = diagnose_run(run)
    assert Diagnosis.model_validate_json((run.path / FILE).read_text()) == diagnosis
    picture = ElementTree.parse(run.path / PLOT).getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg" and len(list(picture.iter())) > 10


@pytest.mark.parametrize(("later", "is_told"), [((), True), ((3,), True), ((3, 4), False)])
def test_a_fault_is_forgotten_once_its_step_was_made(later: tuple[int, ...], is_told: bool, tmp_path: Path) -> None:
    run = unfinished(tmp_path, "train")
    metrics(run, 30)
    data = {"fault": "not_finite", "step": 4, "rows": "r.jsonl:7"}
    events = [{"room": "train", "kind": "note", "message": BROKEN, "data": data}]
    events += [{"room": "train", "kind": "metrics", "data": {"step": step, "loss": 1.0}} for step in later]
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert (gather(run).curve.broken == f"step 4: {BROKEN}, rows r.jsonl:7") is is_told


FINDINGS = (
    Finding(
        name="divergence",
        what="it ran away",
        evidence=("1",),
        confidence=0.9,
        remedy="slower",
        patch={"train.learning_rate": 1e-5, "train.max_grad_norm": 1.0},
    ),
    Finding(
        name="overfitting",
        what="learned by heart",
        evidence=("2",),
        confidence=0.6,
        remedy="shorter",
        patch={"train.learning_rate": 5e-5, "train.epochs": 1.5, "train.early_stopping.patience": 2},
    ),
    Finding(name="data-bound", what="it waits", evidence=("3",), confidence=0.6, remedy="a faster disk"),
)


@pytest.fixture
def findings(tmp_path: Path) -> str:
    path = tmp_path / "found.json"
    told = Diagnosis(run="r", state="finished", findings=FINDINGS, healthy=(), not_checked=())
    path.write_text(told.model_dump_json())
    return str(path)


def test_the_surer_finding_wins_and_every_change_is_told(findings: str, tmp_path: Path) -> None:
    applied = apply_diagnosis(recipe_file(tmp_path / "r"), findings)
    train = applied.recipe.train
    assert (train.learning_rate, train.epochs, train.early_stopping.patience) == (1e-5, 1.5, 2)
    assert applied.changes == (
        "train.learning_rate: auto → 1e-05 (divergence: it ran away)",
        "train.epochs: None → 1.5 (overfitting: learned by heart)",
        "train.early_stopping.patience: None → 2 (overfitting: learned by heart)",
        "data-bound: no value of the recipe helps; a faster disk",
    )


def test_what_is_set_by_hand_wins(findings: str, tmp_path: Path) -> None:
    applied = apply_diagnosis(recipe_file(tmp_path / "r"), findings, overrides=["train.learning_rate=3e-4"])
    assert applied.recipe.train.learning_rate == 3e-4 and "learning_rate" not in " ".join(applied.changes)


def test_only_one_finding_is_applied_where_that_is_asked_for(findings: str, tmp_path: Path) -> None:
    applied = apply_diagnosis(recipe_file(tmp_path / "r"), findings, only="overfitting")
    assert applied.recipe.train.learning_rate == 5e-5 and applied.recipe.train.epochs == 1.5
    with pytest.raises(RecipeError, match="no finding `leakage`") as error:
        apply_diagnosis(recipe_file(tmp_path / "r"), findings, only="leakage")
    assert error.value.hint == "what was found: divergence, overfitting, data-bound"


@pytest.mark.parametrize("text", ["", "{}", "[1]"])
def test_a_file_without_findings_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(text)
    with pytest.raises(RecipeError, match="cannot be read"):
        apply_diagnosis(recipe_file(tmp_path / "r"), str(tmp_path / "none.json"))


def test_a_run_is_diagnosed_and_applied(tmp_path: Path) -> None:
    run = unfinished(tmp_path, "train")
    metrics(run, 30)
    assert apply_diagnosis(recipe_file(tmp_path / "r"), str(run.path)).changes == ()
    assert (run.path / FILE).exists()


def test_a_run_that_stopped_early_has_ended(tmp_path: Path) -> None:
    run = unfinished(tmp_path, "evaluate")
    path = run.room("train") / "artifact.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": 30, "stopped": "early"}))
    metrics(run, 30)
    assert gather(run).curve.ended
