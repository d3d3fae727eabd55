"""The process of the calibration: opens the rooms of a run on a few rows, and weighs its own memory."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from luthier.core.artifacts import Prepared, Trained
from luthier.core.errors import LuthierError
from luthier.core.events import Event
from luthier.evaluate.spec import EvaluateSpec
from luthier.recipe import Plan

if TYPE_CHECKING:
    from luthier.jobs.rooms import Rooms
    from luthier.train.calibrate import Calibration

ASKED, FOUND = "asked.json", "found.json"
STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Child:
    """What the parts of a calibration share."""

    def __init__(self, folder: Path, asked: dict[str, Any]) -> None:
        self.folder = folder
        self.plan = Plan.model_validate(asked["plan"])
        self.prepared = Prepared.model_validate(asked["prepared"])
        self.micro_batches: list[list[int]] = asked["micro_batches"]
        self.sample_rows: list[int] = asked["sample_rows"]
        self.started_s: float = asked["started_s"]

    def measure(self) -> dict[str, Any]:
        """Do a little of everything a run does, in its order, and return what it took."""
        from luthier.jobs.rooms import real_rooms

        rooms = real_rooms()
        import_seconds, start_bytes = time.time() - self.started_s, highest_bytes()
        forget_highest()
        steps = self._steps()
        train_bytes = highest_bytes()
        trained = self._trained(steps)
        forget_highest()
        samples = [self._sample(rooms, trained, rows) for rows in self.sample_rows]
        evaluate_bytes = highest_bytes()
        forget_highest()
        export = self._export(rooms, trained)
        return {
            "import_seconds": import_seconds,
            "start_bytes": start_bytes,
            "train_bytes": train_bytes,
            "evaluate_bytes": evaluate_bytes,
            "export_bytes": highest_bytes(),
            "steps": vars(steps),
            "samples": samples,
            "export": export,
        }

    def _steps(self) -> "Calibration":
        from luthier.train.calibrate import calibrate, free

        tell("steps")
        out = self.folder / "train"
        steps = calibrate(self.plan.train, self.prepared, self.micro_batches, out, _deaf, seed=self.plan.seed)
        free(out)
        return steps

    def _trained(self, steps: "Calibration") -> Trained:
        return Trained(
            folder=self.folder / "train",
            prepared=self.prepared,
            adapter=self.plan.train.adapter.name,
            steps=1,
            best_step=1,
            train_loss=1.0,
            trainable_parameters=steps.trainable,
            total_parameters=steps.parameters,
            tokens_per_second=1.0,
        )

    def _sample(self, rooms: "Rooms", trained: Trained, rows: int) -> dict[str, Any]:
        tell("evaluation")
        asked = self.plan.evaluate or EvaluateSpec()
        spec = asked.model_copy(update={"max_rows": rows})
        out = self.folder / f"evaluate-{rows}"
        out.mkdir()
        watch, started = TaskWatch(), time.perf_counter()
        report = rooms.evaluate(spec, trained, out, watch, seed=self.plan.seed)
        seconds = time.perf_counter() - started
        tuned = [system for system in report.systems if system.name == "tuned"]
        runs_on = any(system.stops_share < 1 for system in tuned)
        return {"rows": rows, "seconds": seconds, "tasks": watch.tasks(), "runs_on": runs_on}

    def _export(self, rooms: "Rooms", trained: Trained) -> dict[str, Any] | None:
        if not self.plan.export:
            return None
        tell("export")
        started = time.perf_counter()
        exports = rooms.export(self.plan.export, trained, self.folder / "export", _deaf)
        size = sum(exported.bytes for exported in exports.exported)
        return {"seconds": time.perf_counter() - started, "bytes": size}


class TaskWatch:
    """Hears the events of an evaluation, and tells how long each task took."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._seconds: dict[tuple[str, str], float] = {}

    def __call__(self, event: Event) -> None:
        """Count the time since the last event to the task that has gone on."""
        now = time.perf_counter()
        if event.kind == "progress":
            key = (event.data["system"], event.data["task"])
            self._seconds[key] = self._seconds.get(key, 0.0) + now - self._last
        self._last = now

    def tasks(self) -> list[dict[str, str | float]]:
        """Return the tasks in their order."""
        return [{"system": system, "name": name, "seconds": took} for (system, name), took in self._seconds.items()]


def _deaf(event: Event) -> None:
    """Pass over an event."""


def tell(part: str) -> None:
    """Say to the parent process what is done now."""
    sys.stdout.write(f"{part}\n")
    sys.stdout.flush()


def highest_bytes() -> int:
    """Return the highest memory since it was last forgotten; on a GPU that of the device."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    with contextlib.suppress(OSError, StopIteration, ValueError):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return psutil.Process().memory_info().rss


def forget_highest() -> None:
    """Begin anew with the highest memory, where the system can; elsewhere it counts from the start."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        REFS.write_text("5")


@contextlib.contextmanager
def answering(folder: Path) -> Iterator[None]:
    """Leave an error that a person can read as the answer."""
    try:
        yield
    except LuthierError as error:
        told = {"what": error.what, "where": error.where, "why": error.why, "hint": error.hint}
        (folder / FOUND).write_text(json.dumps({"error": {"kind": type(error).__name__, **told}}))


def main() -> None:
    """Read what is asked, measure, and write what was found."""
    folder = Path(sys.argv[1])
    with answering(folder):
        found = Child(folder, json.loads((folder / ASKED).read_text())).measure()
        (folder / FOUND).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
