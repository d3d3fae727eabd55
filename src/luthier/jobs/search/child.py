"""The process of one trial: trains it in its folder, and judges it on the validation rows.

It speaks in JSON lines: validation losses as they are measured. It ends when the process that started it is gone.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.core.artifacts import Prepared, Trained
from luthier.core.errors import DataError, Interrupted, LuthierError
from luthier.core.events import Emit, Event, EventLog
from luthier.core.files import write_atomic
from luthier.core.runfolder import RunFolder
from luthier.core.waiting import settle_waiting
from luthier.jobs.stage import stage
from luthier.recipe import Plan

if TYPE_CHECKING:
    from luthier.jobs.rooms import Rooms

ASKED, JUDGED, FAILED = "asked.json", "judged.json", "failed.json"
LOCK_S = 60.0
"""How long to wait for the process of a search that was killed; it ends as soon as it notices."""
NICER = 10


def main() -> None:
    """Do the trial whose folder is named."""
    settle_waiting()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_die_with_the_search, daemon=True).start()
    os.nice(NICER)
    folder = Path(sys.argv[1])
    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    status = 0
    try:
        with _alone(folder):
            (folder / FAILED).unlink(missing_ok=True)
            judged = Trial(folder, asked).judged()
            write_atomic(folder / JUDGED, json.dumps(judged))
    except (Interrupted, KeyboardInterrupt):
        status = Interrupted.exit_status
    except LuthierError as error:
        why = ": ".join(filter(None, (error.what, error.why)))
        write_atomic(folder / FAILED, json.dumps({"why": why}))
        status = error.exit_status
    sys.exit(status)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process works on this trial."""
    import filelock

    with filelock.FileLock(folder / ".lock", timeout=LOCK_S):
        yield


class Trial:
    """One trial: its plan, the rows that all trials share, and what it is judged by."""

    def __init__(self, folder: Path, asked: dict[str, Any]) -> None:
        self.folder = folder
        self.plan = Plan.model_validate(asked["plan"])
        self.prepared = Prepared.model_validate(asked["prepared"])
        self.held_out = Prepared.model_validate(asked["held_out"])
        self.metrics: list[str] = asked["metrics"]

    def judged(self) -> dict[str, Any]:
        """Train, and return what the trial cost and how good it is."""
        from luthier.jobs.rooms import real_rooms

        run = RunFolder(self.folder)
        run.mend_events()
        emit, rooms = EventLog(run.events, (_tell,)), real_rooms()
        trained = self._trained(rooms, emit)
        losses = self._losses(trained)
        measured = self._measured(rooms, trained, emit) if self.metrics else {}
        return {
            "validation_loss": _mean(losses) if losses else _loss_of(trained),
            "losses": losses,
            "measured": measured,
            "seconds": _seconds(trained.folder / "metrics.jsonl"),
            "adapter_bytes": sum(file.stat().st_size for file in trained.weights.glob("*.safetensors")),
            "trainable_parameters": trained.trainable_parameters,
            "steps": trained.steps,
            "best_step": trained.best_step,
        }

    def _trained(self, rooms: "Rooms", emit: Emit) -> Trained:
        plan = self.plan
        trained = stage(
            (self.folder / "train").absolute(),
            Trained,
            lambda out: rooms.train(plan.train, self.prepared, out, emit, seed=plan.seed),
            inputs=[plan.train, plan.seed, self.prepared.inputs_sha256],
            emit=emit,
        )
        return trained.model_copy(update={"folder": (self.folder / "train").absolute(), "prepared": self.prepared})

    def _losses(self, trained: Trained) -> list[tuple[float, int]]:
        """Return loss and target tokens of every validation row; nothing where another loss than theirs is trained."""
        if self.plan.train.method.name != "sft":
            return []
        from luthier.examples.store import Split
        from luthier.model.adapter import load_tuned, ready
        from luthier.model.scoring import row_losses

        split = Split(self.prepared.split("validation"))
        rows = [row for row in map(split.encoded, range(len(split))) if any(row.targets[1:])]
        model = ready(load_tuned(self.prepared.base.folder, trained.weights))
        return [(one.total, one.tokens) for one in row_losses(model, rows)]

    def _measured(self, rooms: "Rooms", trained: Trained, emit: Emit) -> dict[str, dict[str, float]]:
        """Let the tuned model answer the validation rows, and return each metric with its interval."""
        spec = self.plan.evaluate
        assert spec is not None, "checked before the first trial"  # noqa: S101 (our own mistake)
        only = spec.model_copy(update={"baselines": (), "harness": (), "metrics": self._named()})
        trained = trained.model_copy(update={"prepared": self.held_out})
        out = self.folder / "judged"
        out.mkdir(exist_ok=True)
        report = rooms.evaluate(only, trained, out, emit, seed=self.plan.seed)
        found = next(system for system in report.systems if system.name == "tuned").metrics
        absent = next((name for name in self.metrics if name not in found), None)
        if absent is not None:
            why = f"the answers are of the kind `{self.prepared.answer_kind}`; measured were {', '.join(found)}"
            raise DataError(f"`{absent}` cannot be measured on these rows", why=why, hint="take another objective")
        return {name: found[name].model_dump() for name in self.metrics}

    def _named(self) -> Any:
        """Return the metrics to compute; those of the user's own are measured in any case."""
        own = {one.name for one in self.plan.evaluate.user_metrics} if self.plan.evaluate else set()
        return tuple(name for name in self.metrics if name not in own) or "auto"


def _mean(losses: list[tuple[float, int]]) -> float:
    return sum(total for total, _ in losses) / max(1, sum(tokens for _, tokens in losses))


def _loss_of(trained: Trained) -> float | None:
    """Return the loss that training measured of the weights it kept: the best, or else the last."""
    if trained.validation_loss is not None:
        return trained.validation_loss
    lines = (trained.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    measured = [row["validation_loss"] for row in map(json.loads, lines) if "validation_loss" in row]
    return measured[-1] if measured else None


def _seconds(metrics: Path) -> float:
    """Return the seconds of all steps; those of a training that was taken up again count once each."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return sum(row.get("step_seconds", 0.0) for row in rows)


def _tell(event: Event) -> None:
    """Say a validation loss to the search."""
    if event.kind == "metrics" and "validation_loss" in event.data:
        told = {name: event.data[name] for name in ("step", "steps", "validation_loss")}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _die_with_the_search() -> None:
    """Read the pipe that the search holds; its end means that the search is gone."""
    while os.read(0, 1):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
