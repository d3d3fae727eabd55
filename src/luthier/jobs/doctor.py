"""Look over the machine and the installation: what is there, what is missing, and what to do about it."""

import importlib.metadata
import importlib.util
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from luthier.core.settings import cache_dir, runs_dir

if TYPE_CHECKING:
    from luthier.model.device import Hardware

LEAST_MEMORY_BYTES = 3_000_000_000
LEAST_DISK_BYTES = 3_000_000_000
GIGABYTE = 1e9
PACKAGES = ("torch", "transformers", "peft", "safetensors", "gguf", "datasets", "pyarrow", "pydantic")
PROBE_SIZE = 1024
PROBE_ROUNDS = 4


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: str
    state: Literal["ok", "note", "problem"] = "ok"
    hint: str | None = None


def examine() -> list[Finding]:
    """Return everything found, in the order a person reads it."""
    from luthier.model.device import hardware

    machine = hardware()
    return [*_software(), *_machine(machine), _compiler(), *_disks(), _embedded()]


def _software() -> Iterator[Finding]:
    yield Finding(name="python", value=f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        yield Finding(name=name, value=importlib.metadata.version(name))


def _machine(machine: "Hardware") -> Iterator[Finding]:
    yield Finding(name="cpu", value=f"{machine.cpu}, {machine.cores} cores")
    yield Finding(name="accelerator", value=machine.accelerator or "none; the CPU does the work")
    free, total = machine.available_bytes / GIGABYTE, machine.memory_bytes / GIGABYTE
    low = machine.available_bytes < LEAST_MEMORY_BYTES
    yield Finding(
        name="memory",
        value=f"{free:.1f} GB free of {total:.1f} GB",
        state="problem" if low else "ok",
        hint="close other programs, or set `train.gradient_checkpointing: true`" if low else None,
    )
    yield Finding(name="precision", value=f"{machine.fast_dtype}: {machine.fast_dtype_because}")
    yield Finding(name="speed", value=_speed(machine.cores))


def _speed(cores: int) -> str:
    """Time fp32 matrix products with one thread and with all."""
    one, all_threads = _flop_per_s(1), _flop_per_s(cores)
    return f"{one / 1e9:.0f} GFLOP/s with one thread, {all_threads / 1e9:.0f} with {cores}"


def _flop_per_s(threads: int) -> float:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        square = torch.ones(PROBE_SIZE, PROBE_SIZE)
        best = min(_seconds(square) for _ in range(PROBE_ROUNDS))
    finally:
        torch.set_num_threads(before)
    return 2 * PROBE_SIZE**3 / best


def _seconds(square: "torch.Tensor") -> float:  # noqa: F821 (torch is only loaded where it works)
    started = time.perf_counter()
    square @ square
    return time.perf_counter() - started


def _compiler() -> Finding:
    from luthier.jobs.facts import compiler

    found = compiler()
    if found:
        return Finding(name="compiler", value=found)
    hint = "install g++ or clang++ to let long runs compile their kernels"
    return Finding(name="compiler", value="none", state="note", hint=hint)


def _disks() -> Iterator[Finding]:
    for name, folder in (("runs", runs_dir()), ("cache", cache_dir())):
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(place).free
        low = free < LEAST_DISK_BYTES
        yield Finding(
            name=f"{name} folder",
            value=f"{folder.absolute()}, {free / GIGABYTE:.0f} GB free",
            state="problem" if low else "ok",
            hint=f"free some space, or set LUTHIER_{name.upper()} to another disk" if low else None,
        )


def _embedded() -> Finding:
    from luthier.model.base import EMBEDDED, EMBEDDED_FILE, EMBEDDED_PACKAGE, INSTALL_HINT

    found = importlib.util.find_spec(EMBEDDED_PACKAGE)
    places = [Path(place) for place in found.submodule_search_locations or ()] if found else []
    if any((place / EMBEDDED_FILE).exists() for place in places):
        return Finding(name="embedded model", value=f"{EMBEDDED} is installed")
    return Finding(name="embedded model", value=f"{EMBEDDED} is missing", state="problem", hint=INSTALL_HINT)
