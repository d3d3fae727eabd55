"""The estimate of a plan that is too large to be tried here: arithmetic alone."""

from luthier.advise.estimate.result import Because
from luthier.advise.estimate.whole import Machine, Numbers
from luthier.advise.estimate.work import Size, Work
from luthier.advise.machine import CPU_FLOP_PER_S_AND_CORE

START_BYTES = 600_000_000
"""Memory of Python with every library loaded."""
START_S = 20.0
VALUE_BYTES = 4
HALF_BYTES = 2
BEST_BYTES = 4
"""The best weights so far, per trained weight."""
ACTIVATION_VALUES = 17
"""Values that one layer keeps per token and hidden unit (Korthikanti et al. 2022, arXiv:2205.05198)."""
DISK_BYTES_PER_S = 200e6
FLOP = 4
"""Forward, and backward through frozen weights, per weight and token."""


def least_bytes(work: Work, size: Size) -> int:
    """Return the memory without which the first step cannot be done."""
    copies = 0 if work.precision == "fp32" else (size.parameters - size.trainable) * HALF_BYTES
    state = size.trainable * (work.state_bytes + BEST_BYTES)
    return int(START_BYTES + size.parameters * VALUE_BYTES + copies + state + _activations(work, size))


def _activations(work: Work, size: Size) -> float:
    layers = 2 if work.recomputes else size.layers
    return work.heaviest.tokens * layers * size.hidden * ACTIVATION_VALUES * VALUE_BYTES


def computed_numbers(work: Work, size: Size, machine: Machine, *, prepare_seconds: float) -> Numbers:
    """Return numbers for a machine that was not tried, since the plan does not fit into its memory."""
    flop_per_s = CPU_FLOP_PER_S_AND_CORE * machine.cores
    token_s = FLOP * size.layer_parameters / flop_per_s
    loads = (
        work.trainings
        * work.stretch
        * sum(shape.load(size) for shape in work.micro_batches)
        * (1.5 if work.full else 1)
    )
    watched = work.trainings * work.validations * sum(shape.load(size) for shape in work.watched) / 2
    asked = work.systems * work.test_rows * (work.prompt_tokens + work.most_new_tokens)
    trained = size.trainable or size.parameters
    # Where the model's own weights train, all of it is saved.
    weights = (size.parameters if work.full else trained) * VALUE_BYTES
    # A checkpoint has no gradient, but the weights and the best ones so far.
    checkpoint = int(trained * (work.state_bytes + BEST_BYTES))
    merged = size.parameters * VALUE_BYTES if "merged" in work.exports else 0
    disk = {
        "data": work.data_bytes,
        "checkpoints": work.trainings * work.kept_checkpoints * checkpoint,
        "weights": work.trainings * (1 + work.kept_snapshots) * weights,
        "exports": merged,
    }
    seconds = {
        "prepare_seconds": prepare_seconds + START_S,
        "train_seconds": loads * token_s + work.trainings * work.checkpoints * checkpoint / DISK_BYTES_PER_S,
        "validate_seconds": watched * token_s,
        "evaluate_seconds": asked * token_s,
        "export_seconds": 3 * merged / DISK_BYTES_PER_S,
    }
    because = Because(source="computed", text=_why(machine))
    names = ("peak_memory_bytes", *seconds, "disk_bytes")
    per_token = _activations(work, size) / max(1, work.heaviest.tokens)
    return Numbers({"training": least_bytes(work, size)}, seconds, disk, dict.fromkeys(names, because), per_token)


def _why(machine: Machine) -> str:
    speed = CPU_FLOP_PER_S_AND_CORE / 1e9
    return f"too large to be tried here: arithmetic on its size, {speed:.0f} GFLOP/s on each of {machine.cores} cores"
