"""The same plan on a GPU that is not here: arithmetic on published figures, with every assumption named."""

import math

from luthier.advise.estimate.gpus import Gpu
from luthier.advise.estimate.price import Price, cost_of
from luthier.advise.estimate.result import Because, GpuEstimate
from luthier.advise.estimate.work import Size, Work

UTILISATION = 0.35
"""Share of the published arithmetic that training reaches; 0.3 to 0.5 is usual on one GPU."""
BANDWIDTH_SHARE = 0.6
"""Share of the published bandwidth that reading the weights for each answered token reaches."""
LAYER_S = 0.001
"""Least time of one layer, forward and backward: small kernels wait for their launch."""
CONTEXT_BYTES = 1_000_000_000
"""What CUDA and its libraries take, and what the allocator cannot use."""
START_S = 30.0
"""Starting, loading and checking."""
DISK_BYTES_PER_S = 500e6
VALUE_BYTES = 4
HALF_BYTES = 2
LAYERS_THERE = 2
"""Layers whose activations are on the GPU at once where they are moved away: one going, one coming."""
FORWARD, BACKWARD = 2, 2
"""Floating-point operations per weight and token: the layer itself, the gradient of its input."""


def on_gpu(
    work: Work, size: Size, gpu: Gpu, *, activation_bytes_per_token: float, price: Price | None = None
) -> GpuEstimate:
    """Return what the plan would take on a GPU that nobody has measured."""
    needed = peak_bytes(work, size, activation_bytes_per_token)
    trained = work.trainings * train_seconds(work, size, gpu)
    seconds = START_S + trained + evaluate_seconds(work, size, gpu) + export_seconds(work, size)
    text = (
        f"not measured: from published figures ({gpu.source}: {gpu.memory_gb:g} GB, {_tflops(work, gpu):g} TFLOP/s, "
        f"{gpu.bandwidth_gb_s:g} GB/s), {UTILISATION:.0%} of them assumed, {BANDWIDTH_SHARE:.0%} of the bandwidth"
    )
    return GpuEstimate(
        name=gpu.name,
        peak_memory_bytes=needed,
        memory_bytes=gpu.memory_bytes,
        fits=needed <= gpu.memory_bytes,
        total_seconds=seconds,
        cost=cost_of(seconds, price, watts=gpu.watts, watts_because=f"{gpu.watts} W: {gpu.source}"),
        because=Because(source="published", text=text),
    )


def peak_bytes(work: Work, size: Size, activation_bytes_per_token: float) -> int:
    """Return the memory of weights, their half-precision copies, what trains, and the heaviest micro-batch."""
    frozen = size.parameters - size.trainable
    copies = 0 if work.precision == "fp32" else frozen * HALF_BYTES
    weights = size.parameters * VALUE_BYTES + copies + size.trainable * work.state_bytes
    there = min(1.0, LAYERS_THERE / max(1, size.layers)) if work.offloads else 1.0
    return int(weights + work.heaviest.tokens * activation_bytes_per_token * there + CONTEXT_BYTES)


def train_seconds(work: Work, size: Size, gpu: Gpu) -> float:
    """Return the seconds of the steps and validations."""
    weight_gradients = BACKWARD if work.full else 0
    again = FORWARD if work.recomputes else 0
    passes = 1 + FORWARD / (FORWARD + BACKWARD) * work.referenced_rows / max(1, work.sampled_rows * work.stretch)
    steps = _passes_seconds(work, size, gpu, FORWARD + BACKWARD + weight_gradients + again)
    watched = math.fsum(shape.load(size) for shape in work.watched) * work.validations
    return steps * passes + watched * size.layer_parameters * FORWARD / _flop_per_s(work, gpu)


def _passes_seconds(work: Work, size: Size, gpu: Gpu, flop: int) -> float:
    least = size.layers * LAYER_S
    each = (shape.load(size) * size.layer_parameters * flop / _flop_per_s(work, gpu) for shape in work.micro_batches)
    return work.stretch * math.fsum(max(least, seconds) for seconds in each)


def evaluate_seconds(work: Work, size: Size, gpu: Gpu) -> float:
    """Return the seconds in which all systems answer: reading is arithmetic, writing is bandwidth."""
    if not work.test_rows:
        return 0.0
    reading = work.test_rows * work.prompt_tokens * FORWARD * size.layer_parameters / (gpu.fp32_tflops * 1e12)
    token = size.parameters * VALUE_BYTES / (gpu.bandwidth_gb_s * 1e9 * BANDWIDTH_SHARE)
    batches = math.ceil(work.test_rows / work.rows_per_batch)
    writing = batches * work.most_new_tokens * max(token, size.layers * LAYER_S / 2)
    return work.systems * (2 * reading / UTILISATION + writing)


def export_seconds(work: Work, size: Size) -> float:
    """Return the seconds of writing a merged model, and of reading it for its proof."""
    return 3 * size.parameters * VALUE_BYTES / DISK_BYTES_PER_S if "merged" in work.exports else 0.0


def _tflops(work: Work, gpu: Gpu) -> float:
    return gpu.fp32_tflops if work.precision == "fp32" else gpu.half_tflops


def _flop_per_s(work: Work, gpu: Gpu) -> float:
    return _tflops(work, gpu) * 1e12 * UTILISATION
