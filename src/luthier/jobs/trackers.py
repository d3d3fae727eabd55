"""Trackers: the measurements of training, told to a program that compares runs. Each works without a network."""

import importlib.util
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from luthier.core.errors import RecipeError
from luthier.core.events import Event
from luthier.core.files import write_atomic
from luthier.core.runfolder import RunFolder
from luthier.jobs.tensorboard import NOT_CURVES
from luthier.recipe import TrackerName

PROJECT = "luthier"
FIRST_TRAINING = "train"
"""The room's name; further trainings of a run are called after their seeds."""
PACKAGES: dict[TrackerName, str] = {
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "trackio": "trackio",
}


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Refuse a tracker whose package is not installed, before any long work."""
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise RecipeError(
                f"the tracker `{name}` is not installed",
                where={"field": "trackers"},
                hint=f"pip install 'luthier[{name}]', or leave it out of `trackers`",
            )


class Tracker(Protocol):
    """A program that keeps runs and their curves."""

    def begin(self, place: Path, title: str, known: str | None) -> str:
        """Open a new run, or the one that is known by this id; return its id."""
        ...

    def add(self, step: int, time_s: float, numbers: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        ...

    def end(self) -> None:
        """Close the run."""
        ...


class Mlflow:
    """MLflow, into files beside the run, or to the server that `MLFLOW_TRACKING_URI` names."""

    def begin(self, place: Path, title: str, known: str | None) -> str:
        """Open a run of the experiment `luthier`."""
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or place.absolute().as_uri()
        self.client = MlflowClient(tracking_uri=uri)
        if known is not None:
            self.client.update_run(known, status="RUNNING")
        self.run = known or self._new(title)
        return self.run

    def _new(self, title: str) -> str:
        found = self.client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found is not None else self.client.create_experiment(PROJECT)
        return str(self.client.create_run(experiment, run_name=title).info.run_id)

    def add(self, step: int, time_s: float, numbers: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        from mlflow.entities import Metric

        now = int(time_s * 1000)
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    def end(self) -> None:
        """Mark the run as finished."""
        self.client.set_terminated(self.run)


class Wandb:
    """Weights & Biases, offline: `wandb sync` uploads it when somebody wants that."""

    def begin(self, place: Path, title: str, known: str | None) -> str:
        """Open an offline run."""
        import wandb

        place.mkdir(parents=True, exist_ok=True)
        name = known or uuid.uuid4().hex[:8]
        self.run = wandb.init(
            project=PROJECT, name=title, id=name, resume="allow", mode="offline", dir=str(place.absolute())
        )
        return name

    def add(self, step: int, time_s: float, numbers: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        self.run.log(dict(numbers), step=step)

    def end(self) -> None:
        """Write what is left."""
        self.run.finish()


class Trackio:
    """Trackio, into a folder beside the run, or into the one that `TRACKIO_DIR` names."""

    def begin(self, place: Path, title: str, known: str | None) -> str:
        """Open a run by its name, which is new where no id is known."""
        import trackio

        name = known or f"{title}-{uuid.uuid4().hex[:8]}"
        self.run = trackio.init(project=PROJECT, name=name, resume="allow")
        return name

    def add(self, step: int, time_s: float, numbers: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        self.run.log(dict(numbers), step=step)

    def end(self) -> None:
        """Write what is left."""
        self.run.finish()


def variables(name: TrackerName, place: Path) -> dict[str, str]:
    """Return the environment in which a tracker writes beside the run; what somebody has set stays."""
    wanted: dict[TrackerName, dict[str, str]] = {
        # MLflow writes plain files only where this is said; Trackio reads its folder when it is imported.
        "mlflow": {"MLFLOW_ALLOW_FILE_STORE": "true"},
        "trackio": {"TRACKIO_DIR": str(place.absolute())},
    }
    return {key: value for key, value in wanted.get(name, {}).items() if key not in os.environ}


KINDS: dict[TrackerName, Callable[[], Tracker]] = {"mlflow": Mlflow, "wandb": Wandb, "trackio": Trackio}


class Tracking:
    """A listener that tells one tracker what training measured, each step once, also when a run goes on."""

    def __init__(self, name: TrackerName, folder: RunFolder, warn: Callable[[str], None]) -> None:
        self.tracker = KINDS[name]()
        self.name = name
        self.folder = folder
        self.warn = warn
        self.is_lost = False
        self.lent: dict[str, str] = {}
        """Environment variables that are set while a run is open."""
        self.place = folder.path / name
        self.kept = folder.path / f"{name}.json"
        self.told: dict[str, Any] = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.training = FIRST_TRAINING
        self.opened: str | None = None

    def __call__(self, event: Event) -> None:
        """Add one point to each curve; another training is another run."""
        if event.room == "jobs" and event.kind == "start":
            self.training = event.message
        if event.room == "train" and event.kind == "metrics" and not self.is_lost:
            self._guarded(lambda: self._tell(event))

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do it; what goes wrong in a tracker ends the tracking, never the training."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 (trackers raise types of their own, and of their servers' libraries)
            self.is_lost = True
            self._give_back()
            why = str(error).strip().splitlines()
            self.warn(f"`{self.name}` is told nothing more: {why[0] if why else type(error).__name__}")

    def _give_back(self) -> None:
        self.opened = None
        for name in self.lent:
            os.environ.pop(name, None)
        self.lent = {}

    def _tell(self, event: Event) -> None:
        step = event.data["step"]
        # Since its checkpoint a run that goes on measures again what the tracker knows.
        if step <= self.told.get(self.training, {}).get("step", -1):
            return
        if self.opened != self.training:
            self._open()
        numbers = {
            name: float(value)
            for name, value in event.data.items()
            if name not in NOT_CURVES and isinstance(value, int | float)
        }
        self.tracker.add(step, event.time_s, numbers)
        self.told[self.training]["step"] = step
        self._keep()

    def _open(self) -> None:
        if self.opened is not None:
            self.tracker.end()
            self._give_back()
        self.lent = variables(self.name, self.place)
        os.environ.update(self.lent)
        title = self.folder.path.absolute().name
        title += "" if self.training == FIRST_TRAINING else f"-seed-{self.training}"
        known = self.told.setdefault(self.training, {"run": None, "step": -1})
        known["run"] = self.tracker.begin(self.place, title, known["run"])
        self.opened = self.training
        self._keep()

    def _keep(self) -> None:
        write_atomic(self.kept, json.dumps(self.told))

    def close(self) -> None:
        """End the run that is open."""
        if self.opened is not None:
            self._guarded(self.tracker.end)
            self._give_back()
