"""The estimate put together: every number with its reason."""

from typing import NamedTuple

from luthier.advise.estimate import times
from luthier.advise.estimate.changes import changes
from luthier.advise.estimate.gpus import Gpu
from luthier.advise.estimate.measured import Measured, Steps
from luthier.advise.estimate.price import Price, cost_of, watts_here
from luthier.advise.estimate.published import on_gpu
from luthier.advise.estimate.result import Because, Change, PlanEstimate, Source
from luthier.advise.estimate.space import disk_bytes, memory_bytes
from luthier.advise.estimate.work import Shape, Size, Work

BUSY = 1.5
"""Micro-batches that took so much longer than the line says were disturbed by other programs."""


class Machine(NamedTuple):
    """This machine, as far as an estimate asks."""

    name: str
    cores: int
    available_bytes: int
    """Memory that a run may take."""
    free_disk_bytes: int


class Asked(NamedTuple):
    """What else a person wants to know."""

    price: Price | None = None
    gpus: tuple[Gpu, ...] = ()


class Numbers(NamedTuple):
    """The numbers of an estimate, before they are judged."""

    memory: dict[str, int]
    """The highest of each part."""
    seconds: dict[str, float]
    """By the name of the field."""
    disk: dict[str, int]
    because: dict[str, Because]
    activation_bytes_per_token: float


def measured_numbers(work: Work, measured: Measured, timed: tuple[Shape, ...], *, prepare_seconds: float) -> Numbers:
    """Return the numbers that follow from what was measured on this machine."""
    steps, export = measured.steps, measured.export
    memory = memory_bytes(work, measured, measured.samples[-1].rows if measured.samples else 0)
    seconds = {
        "prepare_seconds": measured.import_seconds + prepare_seconds,
        "train_seconds": times.train_seconds(work, steps, timed),
        "validate_seconds": times.validate_seconds(work, steps, timed),
        "evaluate_seconds": times.evaluate_seconds(work, measured),
        "export_seconds": export.seconds if export else 0.0,
    }
    texts = {
        "peak_memory_bytes": _memory_text(memory),
        "prepare_seconds": "the rows were prepared, and the libraries loaded",
        "train_seconds": _train_text(work, steps, timed),
        "validate_seconds": f"{work.validations} validations of {len(work.watched)} micro-batches each",
        "evaluate_seconds": _evaluate_text(work, measured),
        "export_seconds": f"done once on this machine: {', '.join(work.exports)}" if export else "nothing to export",
    }
    because = {name: Because(source="measured", text=text) for name, text in texts.items()}
    disk = disk_bytes(work, measured)
    because["disk_bytes"] = _disk_because(work, steps)
    return Numbers(memory, seconds, disk, because, steps.activation_bytes_per_token)


def _memory_text(memory: dict[str, int]) -> str:
    highest = max(memory, key=lambda part: memory[part])
    return f"the heaviest micro-batch was run, then a little of the rest: {highest} needs most"


def _train_text(work: Work, steps: Steps, timed: tuple[Shape, ...]) -> str:
    line = times.backward_line(steps, timed)
    whole = times.step_seconds(work, steps, timed)
    busy = "; the machine is busy, so it may be less" if _is_busy(steps, timed) else ""
    return (
        f"{len(steps.backward_seconds)} micro-batches timed: {line.fixed:.3g} s + {line.slope * 1000:.3g} ms a token; "
        f"{work.steps:,} steps take {whole:.3g} s, {work.checkpoints} checkpoints {steps.checkpoint_seconds:.2g} s "
        f"each, the start {steps.start_seconds:.2g} s{busy}"
    )


def _is_busy(steps: Steps, timed: tuple[Shape, ...]) -> bool:
    line, shapes = times.backward_line(steps, timed), timed[1:] or timed
    expected = [line(shape.load(steps)) for shape in shapes]
    return any(took > BUSY * said for took, said in zip(steps.backward_seconds, expected, strict=False))


def _evaluate_text(work: Work, measured: Measured) -> str:
    if not measured.samples:
        return "nothing is evaluated"
    rows = " and ".join(str(sample.rows) for sample in measured.samples)
    return f"{rows} rows were evaluated, {work.test_rows} will be; the tuned model is taken to stop as the answers do"


def _disk_because(work: Work, steps: Steps) -> Because:
    size = f"{steps.checkpoint_bytes / 1e6:,.1f} MB each"
    text = f"{work.kept_checkpoints} checkpoints are kept, {size}; one more is there while it is written"
    return Because(source="measured", text=text)


def judged(work: Work, size: Size, numbers: Numbers, machine: Machine, asked: Asked) -> PlanEstimate:
    """Return the estimate: does it fit, what would make it fit, what does it cost, and how is it elsewhere."""
    total, disk = sum(numbers.seconds.values()), sum(numbers.disk.values())
    peak = max(numbers.memory.values())
    missing = peak - machine.available_bytes
    per_token = numbers.activation_bytes_per_token
    watts, why = watts_here(asked.price, cores=machine.cores)
    because = numbers.because | {"total_seconds": Because(source=_source(numbers), text="the sum of the parts")}
    return PlanEstimate(
        machine=machine.name,
        peak_memory_bytes=peak,
        memory=numbers.memory,
        available_memory_bytes=machine.available_bytes,
        fits=missing <= 0 and disk <= machine.free_disk_bytes,
        total_seconds=total,
        disk_bytes=disk,
        disk=numbers.disk,
        free_disk_bytes=machine.free_disk_bytes,
        because=because,
        cost=cost_of(total, asked.price, watts=watts, watts_because=why),
        changes=_changes(work, size, missing, disk - machine.free_disk_bytes, per_token),
        elsewhere=tuple(
            on_gpu(work, size, gpu, activation_bytes_per_token=per_token, price=asked.price) for gpu in asked.gpus
        ),
        **numbers.seconds,
    )


def _source(numbers: Numbers) -> Source:
    return numbers.because["train_seconds"].source


def _changes(work: Work, size: Size, missing: int, missing_disk: int, per_token: float) -> tuple[Change, ...]:
    found = changes(work, size, missing_bytes=missing, activation_bytes_per_token=per_token) if missing > 0 else ()
    if missing_disk > 0 and work.kept_checkpoints > 1:
        because = f"{missing_disk / 1e9:.2f} GB of disk are missing; one checkpoint is enough to go on from"
        found += (Change(path="train.keep_checkpoints", value=1, because=because),)
    return found
