"""A search whose trials are computed in this process: the loss follows from the values tried."""

import json
import math
import queue
import time
from collections.abc import Callable
from pathlib import Path

from tests.jobs.fakes import FakeRooms

from luthier.core.artifacts import Prepared
from luthier.core.events import Event
from luthier.jobs.search.child import ASKED, JUDGED
from luthier.jobs.search.desk import Wanted
from luthier.jobs.search.result import Searched
from luthier.jobs.search.search import search
from luthier.jobs.search.worker import Said, Worker

RECIPE = "base_model: base\ndata: rows.jsonl\ntrain: {learning_rate: 1e-4, steps: 100, adapter: {r: 8}, threads: 1}\n"
SPACE = """\
search_strategy: {type: random, num_trials: 4}
search_space:
  learning_rate: {type: float, low: 1e-5, high: 1e-2, log: true}
  lora_r: {type: int, low: 2, high: 32}
"""
Judge = Callable[[dict], dict]


def loss_of(train: dict) -> float:
    """Best at a learning rate of 1e-3 and a large rank."""
    return 1 + abs(-3 - math.log10(train["learning_rate"])) - train["adapter"]["r"] / 1000


class Rooms(FakeRooms):
    """Prepares rows that can be linked to."""

    def data(self, spec, given, out: Path, emit, *, seed: int) -> Prepared:
        (out / "examples").mkdir()
        for name in ("train", "validation", "test"):
            (out / "examples" / f"{name}.arrow").write_text(name)
        return super().data(spec, given, out, emit, seed=seed)


class FakeWorker(Worker):
    """Says ten losses and ends; remembers being stopped."""

    made: list["FakeWorker"] = []
    breaks_at: int | None = None
    fails: tuple[int, ...] = ()
    waits: tuple[int, ...] = ()
    """Trials that do not end by themselves."""
    deaf: tuple[int, ...] = ()
    """Of these, trials that do not end when they are asked to."""
    killed = False

    def __init__(self, trial: int, folder: Path, said: "queue.Queue[Said]") -> None:
        self.trial, self.folder, self.started, self.stopped, self.said = trial, folder, time.monotonic(), False, said
        self.asked = json.loads((folder / ASKED).read_text())
        FakeWorker.made.append(self)
        if trial == FakeWorker.breaks_at:
            FakeWorker.breaks_at = None
            raise KeyboardInterrupt
        if trial in FakeWorker.waits:
            return
        train = self.asked["plan"]["train"]
        loss = loss_of(train)
        for step in range(10, 101, 10):
            said.put(Said(trial, loss={"step": step, "steps": 100, "validation_loss": loss + 1 - step / 100}))
        rows = [[loss * (1 + (row % 3) / 10), 1] for row in range(100)]
        judged = {"validation_loss": loss, "losses": rows, "measured": {}, "seconds": 10 / loss}
        judged |= {"adapter_bytes": 8, "trainable_parameters": 4, "steps": 100, "best_step": 100}
        if trial not in FakeWorker.fails:
            (folder / JUDGED).write_text(json.dumps(judged))
        said.put(Said(trial, ended=1 if trial in FakeWorker.fails else 0))

    def stop(self) -> None:
        self.stopped = True
        (self.folder / JUDGED).unlink(missing_ok=True)
        if self.trial in FakeWorker.waits and self.trial not in FakeWorker.deaf:
            self.said.put(Said(self.trial, ended=130))

    def kill(self) -> None:
        self.killed = True
        self.stop()

    def close(self) -> None:
        pass

    def why(self, status: int) -> str:
        return f"broken with status {status}"


class Bench:
    """A folder with a recipe and a space, and searches in it."""

    def __init__(self, folder: Path, space: str = SPACE, recipe: str = RECIPE) -> None:
        self.folder, self.events = folder, list[Event]()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
        (folder / "recipe.yaml").write_text(recipe)
        (folder / "space.yaml").write_text(space)
        FakeWorker.made, FakeWorker.breaks_at, FakeWorker.fails = [], None, ()
        FakeWorker.waits = FakeWorker.deaf = ()

    def search(self, out: str = "out", **changes) -> Searched:
        wanted = Wanted(
            self.folder / "recipe.yaml", self.folder / "space.yaml", out=self.folder / out, **({} | changes)
        )
        return search(wanted, self.events.append, rooms=Rooms().rooms(), start=FakeWorker)


def tried(result: Searched) -> list[dict]:
    return [trial.tried for trial in result.trials]
