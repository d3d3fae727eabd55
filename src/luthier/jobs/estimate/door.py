"""What a recipe or a plan will take: count its work, try a little of it, and say what follows."""

import contextlib
import ctypes
import gc
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from luthier.advise.estimate.computed import computed_numbers, least_bytes
from luthier.advise.estimate.measured import Measured
from luthier.advise.estimate.result import PlanEstimate
from luthier.advise.estimate.trained import trained_weights
from luthier.advise.estimate.whole import Asked, Machine, judged, measured_numbers
from luthier.advise.estimate.work import Size
from luthier.core.artifacts import Base, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Emit, Event
from luthier.core.settings import runs_dir
from luthier.jobs.estimate.measuring import measure
from luthier.jobs.estimate.work import Counted, count, is_fast, shape_of, shares
from luthier.jobs.prepare import check_sources, refuse_heads, settle
from luthier.jobs.rooms import Rooms, real_rooms
from luthier.recipe import Plan, Recipe

NOTHING_ELSE = Asked()
MOST_KEPT_BYTES = 260_000_000
"""What settling leaves beyond this (a probed model) is taken up again, as measured with 135M weights."""


class Before(NamedTuple):
    """What a run does before it trains, done and weighed in this process."""

    seconds: float
    process_bytes: int = 0
    """Memory of the process that settled the plan and prepared the rows; 0 where it also did other things."""


class Estimated(NamedTuple):
    """A settled plan, and what it will take."""

    plan: Plan
    estimate: PlanEstimate


def _deaf(event: Event) -> None:
    """Pass over an event."""


def estimate_recipe(
    recipe: Recipe,
    emit: Emit = _deaf,
    *,
    asked: Asked = NOTHING_ELSE,
    rooms: Rooms | None = None,
    machine: Machine | None = None,
) -> Estimated:
    """Settle a recipe, prepare its rows aside, and estimate the plan; nothing of a run is left."""
    from luthier.recipe_io.read import check_recipe

    check_recipe(recipe)
    refuse_heads(recipe, "estimate")
    check_sources(recipe)
    doors, started = rooms or real_rooms(), time.perf_counter()
    base = doors.base(recipe.base_model, emit)
    plan = settle(recipe, base, doors, emit)
    with tempfile.TemporaryDirectory(prefix="luthier-estimate-") as folder:
        prepared = doors.data(plan.data, base, Path(folder) / "data", emit, seed=plan.seed)
        before = Before(time.perf_counter() - started, _kept_bytes())
        estimate = estimate_plan(plan, base, prepared, emit, asked=asked, machine=machine, before=before)
    return Estimated(plan, estimate)


def estimate_plan(  # noqa: PLR0913 (what is known beside the plan, named)
    plan: Plan,
    base: Base,
    prepared: Prepared,
    emit: Emit = _deaf,
    *,
    asked: Asked = NOTHING_ELSE,
    machine: Machine | None = None,
    before: Before | None = None,
) -> PlanEstimate:
    """Return what a plan takes here, from a few real steps, or by arithmetic where it does not fit into memory."""
    _check_rows(prepared)
    prepared = prepared.model_copy(update={"base": base})
    machine, before = machine or this_machine(), before or Before(prepared.seconds)
    counted = count(plan, prepared, fast=is_fast(plan), share=shares(plan))
    size = size_of(plan, base)
    if least_bytes(counted.work, size) > machine.available_bytes:
        numbers = computed_numbers(counted.work, size, machine, prepare_seconds=before.seconds)
        return judged(counted.work, size, numbers, machine, asked)

    measured = measure(plan, prepared, counted.work, [micro.rows for micro in counted.picks], emit)
    measured, steps = _in_one_process(measured, before), measured.steps
    if (steps.fast, steps.shares) != (is_fast(plan), shares(plan)):
        counted = _recounted(plan, prepared, counted, fast=steps.fast, share=steps.shares)
    timed = tuple(micro.shape for micro in counted.picks)
    numbers = measured_numbers(counted.work, measured, timed, prepare_seconds=before.seconds)
    return judged(counted.work, steps, numbers, machine, asked)


def _kept_bytes() -> int:
    """Return the memory of this process without what it has let go of, which training would take up again."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


def _in_one_process(measured: Measured, before: Before) -> Measured:
    """Add what a run's process keeps of settling and preparing, which the trial's process has not done."""
    kept = min(MOST_KEPT_BYTES, max(0, before.process_bytes - measured.start_bytes))
    parts = ("train_bytes", "evaluate_bytes", "export_bytes")
    return measured.model_copy(update={part: getattr(measured, part) + kept for part in parts})


def _check_rows(prepared: Prepared) -> None:
    if not prepared.rows.get("train"):
        hint = "`luthier data check` lists every row left out, with the reason"
        raise DataError("there are no rows to train on", where={"field": "data.path"}, hint=hint)


def _recounted(plan: Plan, prepared: Prepared, before: Counted, *, fast: bool, share: bool) -> Counted:
    """Count again for the step that really runs; the micro-batches that were timed stay the same rows."""
    from luthier.examples.store import Split

    train = Split(prepared.split("train"))
    work = count(plan, prepared, fast=fast, share=share).work
    picks = tuple(
        micro._replace(shape=shape_of([train.encoded(row) for row in micro.rows], fast=fast, share=share))
        for micro in before.picks
    )
    return Counted(work, picks)


def this_machine() -> Machine:
    """Ask the hardware and the disk of the runs' folder."""
    from luthier.model.device import hardware

    found, runs = hardware(), runs_dir().absolute()
    place = next(parent for parent in (runs, *runs.parents) if parent.exists())
    return Machine(
        name=f"{found.accelerator or found.cpu}, {found.cores} cores",
        cores=found.cores,
        available_bytes=found.available_bytes,
        free_disk_bytes=shutil.disk_usage(place).free,
    )


def size_of(plan: Plan, base: Base) -> Size:
    """Build the model without memory to see how large it is, and what of it trains."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from luthier.model.adapter import is_linear

    config = AutoConfig.from_pretrained(base.folder, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head, text = model.get_output_embeddings(), config.get_text_config()
    linear = [part.weight for part in model.modules() if is_linear(part) and part is not head]
    return Size(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        layer_parameters=sum(weight.numel() for weight in linear),
        head_parameters=head.weight.numel(),
        parameters=model.num_parameters(),
        trainable=trained_weights(
            plan.train.adapter,
            [tuple(weight.shape) for weight in linear],
            hidden=text.hidden_size,
            keys=_key_channels(text),
            layers=text.num_hidden_layers,
            parameters=model.num_parameters(),
        ),
    )


def _key_channels(config: Any) -> int:
    """Return the channels of a layer's keys."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int((getattr(config, "num_key_value_heads", None) or heads) * width)
