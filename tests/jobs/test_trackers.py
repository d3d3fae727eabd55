"""Trackers hear what `metrics.jsonl` says: the same names, the same steps, each once, also when a run goes on."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tests.jobs.fakes import FakeRooms, recipe_file

from luthier.core.errors import RecipeError
from luthier.core.events import Event, read_events
from luthier.core.runfolder import RunFolder
from luthier.jobs.listen import listening
from luthier.jobs.pipeline import run_recipe
from luthier.jobs.trackers import Tracking
from luthier.recipe_io.read import load_recipe, recipe_from

RUNS = "luthier"


def measured(step: int) -> Event:
    data = {"step": step, "steps": 9, "loss": 3.0 - step / 8, "validation_loss": None, "seconds_left": 5}
    return Event(room="train", kind="metrics", data=data, time_s=1000.5)


def training(name: str) -> Event:
    return Event(room="jobs", kind="start", message=name)


def heard(folder: Path, name: str, events: list[Event]) -> None:
    """Let a tracker hear events as one process would."""
    with listening(RunFolder(folder), (), (name, name)) as emit:
        for event in events:
            emit(event)


class Kept:
    """What a fake tracker was told: runs by id, each with its title and points."""

    def __init__(self) -> None:
        self.runs: dict[str, dict] = {}

    def begin(self, key: str, title: str) -> None:
        self.runs.setdefault(key, {"title": title, "points": [], "ended": 0})

    def add(self, key: str, numbers: dict, step: int) -> None:
        self.runs[key]["points"].append((step, numbers))


def fake_wandb(kept: Kept) -> dict[str, ModuleType]:
    def init(*, project, name, id, resume, mode, dir):
        assert (project, resume, mode) == (RUNS, "allow", "offline") and Path(dir).is_dir()
        kept.begin(id, name)
        return run_of(kept, id)

    return {"wandb": module("wandb", init=init)}


def fake_trackio(kept: Kept) -> dict[str, ModuleType]:
    def init(*, project, name, resume):
        assert (project, resume) == (RUNS, "allow")
        kept.begin(name, name.rsplit("-", 1)[0])
        return run_of(kept, name)

    return {"trackio": module("trackio", init=init)}


def run_of(kept: Kept, key: str) -> SimpleNamespace:
    def finish() -> None:
        kept.runs[key]["ended"] += 1

    return SimpleNamespace(log=lambda numbers, step: kept.add(key, numbers, step), finish=finish)


def fake_mlflow(kept: Kept) -> dict[str, ModuleType]:
    class MlflowClient:
        def __init__(self, tracking_uri: str) -> None:
            assert tracking_uri.startswith("file://")

        def get_experiment_by_name(self, name: str):
            return SimpleNamespace(experiment_id="1") if kept.runs else None

        def create_experiment(self, name: str) -> str:
            assert name == RUNS
            return "1"

        def create_run(self, experiment: str, run_name: str):
            key = f"run{len(kept.runs)}"
            kept.begin(key, run_name)
            return SimpleNamespace(info=SimpleNamespace(run_id=key))

        def update_run(self, run: str, status: str) -> None:
            assert run in kept.runs and status == "RUNNING"

        def log_batch(self, run: str, metrics) -> None:
            assert {metric.timestamp for metric in metrics} == {1000500}
            kept.add(run, {metric.key: metric.value for metric in metrics}, metrics[0].step)

        def set_terminated(self, run: str) -> None:
            kept.runs[run]["ended"] += 1

    class Metric(SimpleNamespace):
        def __init__(self, key: str, value: float, timestamp: int, step: int) -> None:
            super().__init__(key=key, value=value, timestamp=timestamp, step=step)

    whole = module("mlflow", MlflowClient=MlflowClient)
    return {"mlflow": whole, "mlflow.entities": module("mlflow.entities", Metric=Metric)}


def module(name: str, **parts) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(parts)
    return made


@pytest.fixture(params=[fake_wandb, fake_trackio, fake_mlflow], ids=["wandb", "trackio", "mlflow"])
def faked(request, monkeypatch) -> tuple[str, Kept]:
    kept, name = Kept(), request.node.callspec.id
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE", "TRACKIO_DIR"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    for path, fake in request.param(kept).items():
        monkeypatch.setitem(sys.modules, path, fake)
    return name, kept


def test_each_step_is_told_once_also_when_a_run_goes_on(faked, tmp_path: Path) -> None:
    name, kept = faked
    folder = tmp_path / "my-run"
    folder.mkdir()
    heard(folder, name, [training("train"), *map(measured, (0, 1, 2, 3))])
    heard(folder, name, [training("train"), *map(measured, (2, 3, 4))])
    (run,) = kept.runs.values()
    assert run["title"] == "my-run" and run["ended"] == 2
    assert run["points"] == [(step, {"loss": 3.0 - step / 8}) for step in range(5)]


def test_each_training_with_another_seed_is_a_run_of_its_own(faked, tmp_path: Path) -> None:
    name, kept = faked
    folder = tmp_path / "my-run"
    folder.mkdir()
    heard(folder, name, [training("train"), measured(1), measured(2), training("8"), measured(1), training("evaluate")])
    heard(folder, name, [training("8"), measured(1), measured(2)])
    points = {run["title"]: [step for step, _ in run["points"]] for run in kept.runs.values()}
    assert points == {"my-run": [1, 2], "my-run-seed-8": [1, 2]}


def test_a_tracker_that_is_not_installed_is_refused_before_any_work(tmp_path: Path, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    rooms = FakeRooms()
    asked = load_recipe(recipe_file(tmp_path / "asked", "data: rows.jsonl\ntrackers: [wandb]\n"))
    with pytest.raises(RecipeError) as refused:
        run_recipe(asked, RunFolder(tmp_path / "run"), rooms=rooms.rooms())
    assert refused.value.where == {"field": "trackers"} and "luthier[wandb]" in refused.value.hint
    assert rooms.opened == [] and not (tmp_path / "run").exists()


def test_the_recipe_says_which_trackers_listen(tmp_path: Path) -> None:
    assert recipe_from({"data": "x"}).trackers == ("tensorboard",)
    for trackers, there in (((), False), (("tensorboard",), True)):
        folder = RunFolder(tmp_path / f"run{there}")
        folder.path.mkdir()
        with listening(folder, (), trackers) as emit:
            emit(measured(1))
        assert (folder.path / "tensorboard").exists() is there
    with pytest.raises(RecipeError) as refused:
        recipe_from({"data": "x", "trackers": ["mlfow"]})
    assert refused.value.where["field"] == "trackers[0]" and "mlflow" in refused.value.hint


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra `mlflow` is not installed")
def test_mlflow_itself_keeps_the_curves(tmp_path: Path) -> None:
    heard(tmp_path, "mlflow", [training("train"), *map(measured, (1, 2))])
    tracking = Tracking("mlflow", RunFolder(tmp_path), print)
    run = json.loads((tmp_path / "mlflow.json").read_text())["train"]["run"]
    tracking.tracker.begin(tracking.place, "again", run)
    points = tracking.tracker.client.get_metric_history(run, "loss")
    assert [(point.step, point.value) for point in points] == [(1, 2.875), (2, 2.75)]


def test_a_trackers_trouble_is_told_once_and_training_goes_on(faked, tmp_path: Path, monkeypatch) -> None:
    name, kept = faked
    folder = tmp_path / "run"
    folder.mkdir()

    def broken(*arguments) -> None:
        raise ConnectionError("no server\nat all")

    monkeypatch.setattr(kept, "add", broken)
    heard(folder, name, [training("train"), *map(measured, (0, 1, 2))])
    told = [event for event in read_events(RunFolder(folder).events) if event.kind == "warning"]
    assert [event.message for event in told] == [f"`{name}` is told nothing more: no server"]
    assert not {"MLFLOW_ALLOW_FILE_STORE", "TRACKIO_DIR"} & os.environ.keys(), "the environment is as it was"
