"""The measurements of a run: one row a step, in a file and as events."""

import json
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch

from luthier.core.events import Emit, Event
from luthier.core.files import disk_errors, write_atomic


class Meter:
    """Write `metrics.jsonl` and emit the same rows."""

    def __init__(self, path: Path, emit: Emit, *, steps: int) -> None:
        self.path = path
        self.emit = emit
        self.steps = steps
        self.process = psutil.Process()
        self.process.cpu_percent()
        self.started = time.perf_counter()
        self.first_step: int | None = None

    def rewind(self, step: int) -> None:
        """Drop rows after `step`; they will be measured again."""
        if self.path.exists():
            whole = [line for line in self.path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in whole if json.loads(line)["step"] <= step]
            write_atomic(self.path, "".join(line + "\n" for line in kept))

    def base(self, measured: dict[str, float]) -> None:
        """Report what the validation measured on the untuned model as step 0."""
        self._write({"step": 0, "steps": self.steps, **measured})

    def step(self, step: int, measured: dict[str, float], *, epoch: float) -> None:
        """Report one optimiser step."""
        self.first_step = step - 1 if self.first_step is None else self.first_step
        passed = time.perf_counter() - self.started
        left = passed / (step - self.first_step) * (self.steps - step)
        machine = {"cpu_percent": self.process.cpu_percent(), "memory_bytes": self.process.memory_info().rss}
        machine["memory_share"] = psutil.virtual_memory().percent / 100
        if torch.cuda.is_available():
            machine["gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
            machine["memory_share"] = machine["gpu_memory_bytes"] / torch.cuda.mem_get_info()[1]
            if find_spec("pynvml"):  # The extra `gpu`.
                machine["gpu_percent"] = torch.cuda.utilization()
        self._write({"step": step, "steps": self.steps, **measured, "epoch": epoch, **machine, "seconds_left": left})

    def _write(self, row: dict[str, float]) -> None:
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.emit(Event(room="train", kind="metrics", data=row))
