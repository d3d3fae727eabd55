"""`luthier bench`: exports side by side: size, time to load, speed, memory, and what their certificates say."""

import json
import statistics
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict

from luthier.core.certificate import Certificate
from luthier.core.errors import LuthierError, RecipeError
from luthier.core.events import Emit, Event
from luthier.export.manifest import is_export, read_manifest

MODULE = "luthier.jobs.export.bench_child"
LONGEST_S = 3600.0
LOOK_S = 0.05
PROMPT_TOKENS, ANSWER_TOKENS, ROUNDS = 256, 64, 3


class BenchRow(BaseModel):
    """One export's figures: the medians over the rounds."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    folder: Path
    engine: str
    bytes: int
    load_seconds: float
    prompt_tokens_per_second: float
    answer_tokens_per_second: float
    memory_bytes: int
    """The highest memory of its process and their children, libraries included."""
    certificate: Certificate
    error: str | None = None
    """Why it was not timed."""


class BenchResult(BaseModel):
    """Exports side by side."""

    kind: Literal["bench"] = "bench"
    prompt_tokens: int
    answer_tokens: int
    rounds: int
    rows: list[BenchRow]


def bench(
    folders: Sequence[Path],
    emit: Emit,
    *,
    rounds: int = ROUNDS,
    prompt_tokens: int = PROMPT_TOKENS,
    answer_tokens: int = ANSWER_TOKENS,
    threads: int | None = None,
) -> BenchResult:
    """Time exports in turn, each in a process of its own, round after round, so that a busy machine is fair to all."""
    from luthier.jobs.export.forms import engine_for, engine_title

    for folder in folders:
        if not is_export(folder):
            hint = "name folders that `luthier export` wrote"
            raise RecipeError("this is no export", where={"folder": folder}, hint=hint)
    found: dict[Path, list[dict[str, Any]]] = {folder: [] for folder in folders}
    for number in range(rounds):
        for folder in folders:
            told = {"done": number * len(found), "total": rounds * len(found), "system": folder.name, "task": "speed"}
            emit(Event(room="export", kind="progress", message=f"round {number + 1}: {folder.name}", data=told))
            found[folder].append(_timed(folder, prompt_tokens, answer_tokens, threads))
    rows = []
    for folder, timed in found.items():
        manifest = read_manifest(folder)
        ready = [one for one in timed if "error" not in one]
        rows.append(
            BenchRow(
                name=manifest.format,
                folder=folder,
                engine=engine_title(engine_for(manifest.form)),
                bytes=manifest.bytes,
                load_seconds=_median(ready, "load_seconds"),
                prompt_tokens_per_second=_median(ready, "prompt_tokens_per_second"),
                answer_tokens_per_second=_median(ready, "answer_tokens_per_second"),
                memory_bytes=int(_median(ready, "memory_bytes")),
                certificate=next(iter(manifest.certificates.values())),
                error=next((str(one["error"]) for one in timed if "error" in one), None),
            )
        )
    return BenchResult(prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, rounds=rounds, rows=rows)


def _median(timed: Sequence[dict[str, Any]], name: str) -> float:
    return float(statistics.median(one[name] for one in timed)) if timed else 0.0


def _timed(folder: Path, prompt_tokens: int, answer_tokens: int, threads: int | None) -> dict[str, Any]:
    from luthier.model.child import run_child

    found: dict[str, Any] = {}

    def heard(line: str) -> None:
        if line.startswith("{"):
            found.update(json.loads(line))

    arguments = [str(folder), str(threads or 0), str(prompt_tokens), str(answer_tokens)]
    try:
        with Watch() as watch:
            run_child(MODULE, arguments, what="it could not be timed", seconds=LONGEST_S, on_line=heard)
    except LuthierError as error:
        return {"error": f"{error.what}: {error.why}"}
    if "error" in found:
        told = found["error"]
        return {"error": f"{told['what']}" + (f": {told['why']}" if told["why"] else "")}
    return {**found, "memory_bytes": watch.highest}


class Watch:
    """Looks at the memory of this process's children while it is open."""

    def __init__(self, now: Callable[[], int] | None = None) -> None:
        self.highest = 0
        self._now = now or children_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self.highest = max(self.highest, self._now())


def children_bytes() -> int:
    """Return the resident memory of all child processes."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            continue
    return total


def ratio_to(rows: Sequence[BenchRow], name: str) -> dict[str, float]:
    """Return how many times as fast as the named row each one writes."""
    base = next((row.answer_tokens_per_second for row in rows if row.name == name), 0.0)
    return {row.name: row.answer_tokens_per_second / base for row in rows} if base else {}
