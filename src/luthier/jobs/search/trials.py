"""The trials of a search: each in a process of its own, several at once where that is asked for."""

import json
import queue
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.core.errors import DataError, Interrupted, RecipeError, TrainingError
from luthier.core.files import sha256_of_json, write_atomic
from luthier.jobs.plan import plan_yaml
from luthier.jobs.search.child import ASKED
from luthier.jobs.search.desk import Desk, note
from luthier.jobs.search.result import OWN, number_text, objective_title, tried_text
from luthier.jobs.search.strategy import COSTS, LOSS
from luthier.jobs.search.study import OUTCOME, PARTS, Study
from luthier.jobs.search.worker import Said, Worker
from luthier.recipe import Plan

if TYPE_CHECKING:
    from optuna.trial import Trial

HOPELESS = 3
"""Failures without one success after which a search gives up."""
STOP_S = 120.0
"""How long a training may take to end its step and write its checkpoint before it is killed."""
MEASURED = ("validation_loss", "seconds", "adapter_bytes", "trainable_parameters", "steps")

Start = Callable[[int, Path, "queue.Queue[Said]"], Worker]
"""Starts the process of a trial: its number, its folder, and where it is heard."""


@dataclass
class Running:
    """A trial whose process works."""

    trial: "Trial"
    worker: Worker
    tried: dict[str, Any]
    key: str
    part: int = 0
    """Tenths of the training that the pruner has been told of."""
    said: dict[str, Any] | None = None
    """The last validation loss, with its step."""
    pruned: bool = False


class Trials:
    """Begins trials, hears them, stops those that fall behind, and writes down how each ended."""

    def __init__(self, desk: Desk, study: Study, start: Start = Worker) -> None:
        self.desk, self.study, self.start = desk, study, start
        self.running: dict[int, Running] = {}
        self.said: queue.Queue[Said] = queue.Queue()
        budget = desk.wanted.budget_s
        self.deadline = None if budget is None else time.monotonic() + budget
        self.left = study.left_running()
        begun = study.trials()
        self.begun = len(begun)
        self.outcomes: list[dict[str, Any]] = [one.user_attrs[OUTCOME] for one in begun if one.state.is_finished()]
        self.over = False
        """Whether no further trial is begun."""
        self.stopping = False

    def run(self) -> None:
        """Do trials until as many as were asked for have ended, or time is over."""
        try:
            while self._begin_some() or self.running:
                self._hear()
        except KeyboardInterrupt as error:
            self._stop_all()
            where, hint = {"search": self.desk.folder}, "what is finished is kept; go on with `--resume`"
            raise Interrupted("stopped", where=where, hint=hint) from error
        finally:
            for one in self.running.values():
                one.worker.kill()

    def _begin_some(self) -> bool:
        """Begin trials while there is room; return whether one was ended at once or begun."""
        begun = False
        while len(self.running) < self.desk.wanted.workers:
            again = bool(self.left)
            trial = self._next()
            if trial is None:
                break
            self._begin(trial, again=again)
            begun = True
        return begun

    def _next(self) -> "Trial | None":
        if self.over or self.stopping:
            return None
        if self.left:
            return self.left.pop(0)
        if self.begun >= self.desk.space.trials + 1:
            return None
        expected = self._expected()
        if self.deadline is not None and time.monotonic() + expected > self.deadline:
            note(self.desk.emit, f"no further trial is begun: one takes about {expected:.0f} s, and the time is spent")
            self.over = True
            return None
        self.begun += 1
        return self.study.ask(self.begun - 1)

    def _expected(self) -> float:
        """Return the seconds a trial takes, by the ones that are done."""
        took = [outcome["took"] for outcome in self.outcomes if outcome["state"] == "done" and "took" in outcome]
        return statistics.median(took) if took else 0.0

    def _begin(self, trial: "Trial", *, again: bool = False) -> None:
        number = trial.number
        values = self.study.values_of(trial, own=self.desk.own)
        tried = {**self.desk.own, **values}
        folder = self.desk.trial_folder(number)
        try:
            plan = self._kept_plan(folder) if again else None
            plan = plan or self.desk.plan_of(values if number else {})
        except (RecipeError, DataError) as error:
            why = ": ".join(filter(None, (error.what, error.why)))
            self._end(trial, {"state": "failed", "why": why}, tried)
            self._check_hope()
            return
        key = sha256_of_json([plan.train.model_dump(mode="json"), plan.seed])
        twin = next((one for one in self.outcomes if one.get("key") == key and one["state"] == "done"), None)
        if twin is not None:
            self._end(trial, {**twin, "took": 0.0}, tried)
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "plan.yaml", plan_yaml(plan))
        write_atomic(folder / ASKED, json.dumps(self.desk.asked(plan)))
        name = "the recipe's own values" if number == OWN else f"trial {number} of {self.desk.space.trials}"
        note(self.desk.emit, f"{name}: {tried_text(tried)}")
        self.running[number] = Running(trial, self.start(number, folder, self.said), tried, key)

    def _kept_plan(self, folder: Path) -> Plan | None:
        """Return what a trial that was cut was doing: resolved anew, `auto` values could be others."""
        path = folder / ASKED
        return Plan.model_validate(json.loads(path.read_text(encoding="utf-8"))["plan"]) if path.exists() else None

    def _hear(self) -> None:
        """Wait for one word of a trial, or for the end of the time."""
        if not self.running:
            return
        try:
            said = self.said.get(timeout=self._patience())
        except queue.Empty:
            note(self.desk.emit, "the time is spent: trainings under way are stopped, with a checkpoint")
            self._stop_all()
            return
        one = self.running.get(said.trial)
        if one is None:
            return
        if said.loss is not None:
            self._weigh(one, said.loss)
        if said.ended is not None:
            self._ended(self.running.pop(said.trial), said.ended)

    def _patience(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def _weigh(self, one: Running, loss: dict[str, Any]) -> None:
        """Tell the pruner a loss, and stop the training where it says so."""
        one.said = loss
        part = PARTS * loss["step"] // loss["steps"]
        is_last = loss["step"] >= loss["steps"]
        if self.desk.space.strategy.pruner == "none" or part <= one.part or is_last or one.pruned:
            return
        one.part = part
        if self.study.falls_behind(one.trial, loss["validation_loss"], part=part):
            one.pruned = True
            one.worker.stop()

    def _ended(self, one: Running, status: int) -> None:
        one.worker.close()
        judged = one.worker.judged() if status == 0 else None
        if judged is not None:
            outcome = {"state": "done", "key": one.key, "took": time.monotonic() - one.worker.started}
            outcome |= {name: judged[name] for name in MEASURED}
            outcome |= self._reached(judged)
        elif one.pruned and one.said:
            why = f"stopped after {one.said['step']} of {one.said['steps']} steps: it fell behind"
            outcome = {"state": "pruned", "why": why, "validation_loss": one.said["validation_loss"]}
        elif self.stopping:
            return
        else:
            outcome = {"state": "failed", "why": one.worker.why(status)}
        self._end(one.trial, outcome, one.tried)
        shutil.rmtree(self.desk.trial_folder(one.trial.number) / "train" / "checkpoints", ignore_errors=True)
        self._check_hope()

    def _reached(self, judged: dict[str, Any]) -> dict[str, Any]:
        """Return a trial's value in each objective, with the interval where it is a metric of answers."""
        measured = judged["measured"]
        names = self.desk.space.strategy.objectives
        values = [judged[name] if name in (LOSS, *COSTS) else measured[name]["value"] for name in names]
        intervals = {name: [one["low"], one["high"]] for name, one in measured.items()}
        return {"values": values, "intervals": intervals}

    def _end(self, trial: "Trial", outcome: dict[str, Any], tried: dict[str, Any]) -> None:
        self.study.tell(trial, outcome)
        self.outcomes.append(outcome)
        name = "the recipe's own values" if trial.number == OWN else f"trial {trial.number}"
        if outcome["state"] != "done":
            note(self.desk.emit, f"{name}: {outcome['state']}: {outcome['why']}")
            return
        names = self.desk.space.strategy.objectives
        reached = zip(names, outcome["values"], strict=True)
        told = ", ".join(f"{objective_title(name)} {number_text(value)}" for name, value in reached)
        note(self.desk.emit, f"{name}: {told} ({tried_text(tried)})")

    def _check_hope(self) -> None:
        failed = [one["why"] for one in self.outcomes if one["state"] == "failed"]
        if len(failed) >= HOPELESS and len(failed) == len(self.outcomes):
            self._stop_all()
            where, hint = {"search": self.desk.folder}, "let `luthier run` do the recipe once, or narrow the space"
            raise TrainingError(f"all of the first {len(failed)} trials failed", where=where, why=failed[0], hint=hint)

    def _stop_all(self) -> None:
        """Let every training end its step and keep a checkpoint, and kill what does not; all can be gone on with."""
        self.stopping = True
        for one in self.running.values():
            one.worker.stop()
        until = time.monotonic() + STOP_S
        while self.running and time.monotonic() < until:
            try:
                said = self.said.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                break
            if said.ended is not None and said.trial in self.running:
                self._ended(self.running.pop(said.trial), said.ended)
        for one in self.running.values():
            one.worker.kill()
        self.running.clear()
