"""The hardware at hand, and which arithmetic it does fast."""

import functools
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

FastDtype = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[FastDtype, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROBE_SHAPE = (512, 576, 1536)
"""Rows, inputs and outputs of the timed matrix product: one feed-forward layer of a small model."""
GPU_PROBE_SHAPE = (4096, 4096, 4096)
"""A GPU's kernels must be large enough that their launch does not count."""
PROBE_ROUNDS = 5
WORTHWHILE = 1.3
"""Half precision costs accuracy and casts; below this gain in speed it does not pay."""


@dataclass(frozen=True)
class Hardware:
    """What this machine has; bytes are of the accelerator where there is one with memory of its own."""

    cpu: str
    cores: int
    memory_bytes: int
    available_bytes: int
    accelerator: str | None
    fast_dtype: FastDtype
    fast_dtype_because: str


def torch_device() -> torch.device:
    """Return the device models run on: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def hardware() -> Hardware:
    """Measure this machine; the arithmetic is timed once per process, the memory each time."""
    device = torch_device()
    dtype, because = fast_dtype()
    total, available = _memory(device)
    return Hardware(
        cpu=cpu_name(),
        cores=physical_cores(),
        memory_bytes=total,
        available_bytes=available,
        accelerator=_accelerator(device),
        fast_dtype=dtype,
        fast_dtype_because=because,
    )


@functools.cache
def fast_dtype() -> tuple[FastDtype, str]:
    """Return the fastest arithmetic worth its loss of accuracy, and why."""
    device = torch_device()
    if device.type == "mps":
        return "fp32", "half precision is not trusted on Apple's MPS yet"
    # fp16 overflows where bf16 does not, so it must be clearly faster; on a CPU it never is.
    halves: tuple[FastDtype, ...] = ("bf16", "fp16") if device.type == "cuda" else ("bf16",)
    seconds = {name: _matmul_seconds(device, _DTYPES[name]) for name in ("fp32", *halves)}
    half: FastDtype = halves[-1] if seconds["bf16"] >= WORTHWHILE * seconds[halves[-1]] else "bf16"
    gain = seconds["fp32"] / seconds[half]
    why = f"{half} matrix products were measured {gain:.2f} times as fast as fp32 here"
    return (half if gain >= WORTHWHILE else "fp32"), why


def _matmul_seconds(device: torch.device, dtype: torch.dtype) -> float:
    rows, inputs, outputs = GPU_PROBE_SHAPE if device.type == "cuda" else PROBE_SHAPE
    left = torch.ones(rows, inputs, device=device, dtype=dtype)
    right = torch.ones(inputs, outputs, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(PROBE_ROUNDS + 1):
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def _memory(device: torch.device) -> tuple[int, int]:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total, free
    memory = psutil.virtual_memory()
    limit = _container_limit()
    if limit is None:
        return memory.total, memory.available
    return min(memory.total, limit), min(memory.available, limit - psutil.Process().memory_info().rss)


def _container_limit() -> int | None:
    # A container's limit ends the process long before the machine's memory is full.
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if path.exists() and (text := path.read_text().strip()).isdigit() and int(text) < 1 << 60:
            return int(text)
    return None


def physical_cores() -> int:
    """Return the physical cores this process may use; more threads only wait for each other."""
    process = psutil.Process()
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()
    physical = psutil.cpu_count(logical=False) or allowed
    return max(1, min(allowed or 1, physical))


def _accelerator(device: torch.device) -> str | None:
    return {"cuda": lambda: torch.cuda.get_device_name(), "mps": lambda: "Apple MPS"}.get(device.type, lambda: None)()


def cpu_name() -> str:
    """Return what this machine's processor is called."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
