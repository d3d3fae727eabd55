"""Calibration: a few real micro-steps of a plan, timed and weighed, before anything is begun."""

import gc
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch

from luthier.core.artifacts import Prepared
from luthier.core.events import Emit
from luthier.examples.store import Encoded, Split
from luthier.model.adapter import Adapter, causal_lm, is_linear
from luthier.model.load import load_model
from luthier.model.step import FastStep, StepModel
from luthier.train import guards
from luthier.train.batches import Batch, Batches, Cut, Watch
from luthier.train.checkpoint import Progress
from luthier.train.loop import Loop
from luthier.train.memory import activation_bytes_per_token
from luthier.train.methods.method import Tally
from luthier.train.room import _on_device, _quiet_base, choose_step
from luthier.train.spec import TrainSpec

ROUNDS = 3
"""How often each micro-batch is timed; the median counts, since other programs may disturb one of them."""
MOST_ROUNDS, ENOUGH_S = 9, 6.0
"""More rounds where they are quick, until so much time has passed."""


@dataclass(frozen=True)
class Calibration:
    """What was measured; micro-batches in the order in which they were given."""

    fast: bool
    """Whether the fast step runs."""
    shares: bool
    """Whether rows that begin alike share their beginning."""
    start_seconds: float
    """Loading, attaching the adapter, and the guards before and after."""
    backward_seconds: list[float]
    forward_seconds: list[float]
    """The last one is of the heaviest micro-batch of the validation, where there is one."""
    disturbance: float
    """By how much the slowest round of the same work was longer than the quickest."""
    update_seconds: float
    """Clipping and the optimiser, once a step."""
    checkpoint_seconds: float
    checkpoint_bytes: int
    weights_seconds: float
    weights_bytes: int
    layers: int
    hidden: int
    layer_parameters: int
    """Weights of the linear layers, which every token meets."""
    head_parameters: int
    """Weights of the LM head, which only targets meet."""
    parameters: int
    trainable: int
    activation_bytes_per_token: float
    """What autograd keeps of one token."""


def calibrate(
    spec: TrainSpec, given: Prepared, micro_batches: Sequence[Sequence[int]], out: Path, emit: Emit, *, seed: int
) -> Calibration:
    """Build what training builds, and do real steps on the given rows; the heaviest come first.

    What the steps write stays in `out`: a checkpoint, and the weights.
    """
    torch.set_num_threads(spec.threads)
    torch.manual_seed(seed)
    train, started = Split(given.split("train")), time.perf_counter()
    adapter = spec.adapter.build()
    model = adapter.attach(_on_device(load_model(given.base.folder)), seed=seed)
    _quiet_base(model, spec)
    step = choose_step(model, spec, train, emit)
    fingerprint = guards.Fingerprint(model)
    start_seconds = time.perf_counter() - started

    vocabulary = model.get_input_embeddings().num_embeddings
    activation_bytes = activation_bytes_per_token(step, vocabulary=vocabulary)

    loop = _loop(spec, given, step, adapter, out, emit, seed=seed)
    rows = [[_priced(train.encoded(number)) for number in numbers] for numbers in micro_batches]
    timed = _steps(loop, rows)
    if loop.validation:
        loop.compare(0.0)
    checkpoint_seconds = _seconds(loop.save)
    weights_seconds = _seconds(lambda: loop.write_weights(out / "weights"))
    start_seconds += _seconds(lambda: fingerprint.check(model))
    return Calibration(
        start_seconds=start_seconds,
        checkpoint_seconds=checkpoint_seconds,
        checkpoint_bytes=_bytes(out / "checkpoints"),
        weights_seconds=weights_seconds,
        weights_bytes=_bytes(out / "weights"),
        activation_bytes_per_token=activation_bytes,
        **timed,
        **_facts(step),
    )


def _loop(  # noqa: PLR0913 (everything a run needs, named)
    spec: TrainSpec, given: Prepared, step: StepModel, adapter: Adapter, out: Path, emit: Emit, *, seed: int
) -> Loop:
    train, cut = Split(given.split("train")), Cut(spec.micro_batch_tokens, share=_shares(step))
    out.mkdir(parents=True, exist_ok=True)
    return Loop(
        spec=spec,
        model=step,
        weights={name: weight for name, weight in step.model.named_parameters() if weight.requires_grad},
        method=spec.method.build(),
        batches=Batches(train, cut, batch_size=spec.batch_size, seed=seed),
        validation=Watch(Split(given.split("validation")), cut),
        steps=10,
        progress=Progress(identity="", threads=spec.threads),
        folder=out,
        emit=emit,
        row_names=str,
        write_weights=lambda folder: adapter.save(step.model, folder, base_model=given.base.name),
    )


def _priced(row: Encoded) -> Encoded:
    """Return a pair as if the untuned model liked both answers as much; what it thinks changes no time."""
    return replace(row, reference=0.0) if row.rejected else row


def _shares(step: StepModel) -> bool:
    return isinstance(step, FastStep) and step.share


def _steps(loop: Loop, groups: list[list[Encoded]]) -> dict[str, list[float] | float]:
    """Time forward and backward of each micro-batch, then the optimiser on the lightest."""
    watched = max(loop.validation.first, key=lambda rows: sum(len(row.ids) for row in rows), default=[])
    watched = [_priced(row) for row in watched]
    # The first pass meets cold caches, kernels to compile and memory to ask for.
    loop.price([rows for rows in (groups[0], watched) if rows], Tally())
    _backward(loop, groups[0])
    lightest = Batch(5, [], [groups[-1]], 0)
    loop.update(lightest)

    backward = [partial(_backward, loop, rows) for rows in groups]
    forward = [partial(_forward, loop, rows) for rows in (*groups, watched) if rows]
    took = _rounds([*backward, *forward, partial(loop.update, lightest)])
    medians = [median(seconds) for seconds in took]
    return {
        "backward_seconds": medians[: len(groups)],
        "forward_seconds": medians[len(groups) : -1],
        "update_seconds": max(0.0, medians[-1] - medians[len(groups) - 1]),
        "disturbance": max(max(seconds) / min(seconds) for seconds in took),
    }


def _rounds(works: list[Callable[[], object]]) -> list[list[float]]:
    """Return the seconds of each work, done in turns so that a busy moment meets all of them."""
    took: list[list[float]] = [[] for _ in works]
    for number in range(MOST_ROUNDS):
        for work, seconds in zip(works, took, strict=True):
            seconds.append(_seconds(work))
        if number + 1 >= ROUNDS and sum(map(sum, took)) > ENOUGH_S:
            break
    return took


def _backward(loop: Loop, rows: list[Encoded]) -> None:
    loop.backward(rows, Batch(0, [], [rows], 0), units=loop.method.units(rows), tally=Tally())


def _forward(loop: Loop, rows: list[Encoded]) -> None:
    loop.price([rows], Tally())


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _facts(step: StepModel) -> dict[str, int | bool]:
    lm = causal_lm(step.model)
    config, head = lm.config.get_text_config(), lm.get_output_embeddings()
    linear = sum(
        part.weight.numel()
        for name, part in lm.named_modules()
        if is_linear(part) and part is not head and "lora_" not in name
    )
    return {
        "fast": isinstance(step, FastStep),
        "shares": _shares(step),
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "layer_parameters": linear,
        "head_parameters": head.weight.numel(),
        "parameters": sum(weight.numel() for weight in step.model.parameters()),
        "trainable": sum(weight.numel() for weight in step.model.parameters() if weight.requires_grad),
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free(out: Path) -> None:
    """Let go of what a calibration held in memory, and remove its checkpoint."""
    gc.collect()
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
