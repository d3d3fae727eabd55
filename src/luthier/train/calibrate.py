"""Calibration: a few real micro-steps of a plan, timed and weighed, before anything is begun."""

import gc
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel

from luthier.core.artifacts import Prepared
from luthier.core.events import Emit
from luthier.examples.store import Encoded, Split
from luthier.model.adapter import Adapter, causal_lm, is_linear, parameters
from luthier.model.load import load_model
from luthier.model.step import FastStep, StepModel
from luthier.train import guards
from luthier.train.batches import Batch, Batches, Cut, Watch
from luthier.train.checkpoint import Progress
from luthier.train.loop import Loop
from luthier.train.memory import activation_bytes_per_token
from luthier.train.methods.method import Tally
from luthier.train.needs import check_needs
from luthier.train.room import _on_device, _quiet_base, choose_step, untuned_loss
from luthier.train.spec import TrainSpec

FEWEST, ENOUGH_S = 8, 15.0
"""Micro-batches timed at least; more of them until so much time has passed."""
ROUNDS = 3
"""How often what comes again and again in a run is timed; the median counts."""


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
    """Of the micro-batches from the second on, as many as there was time for; the first one warms up."""
    memory_bytes: list[int]
    """Memory after each micro-batch: every shape that was not met before leaves something in the libraries' caches."""
    forward_seconds: list[float]
    """Of the heaviest micro-batch of the validation, or the first one; then of the second and third."""
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
    check_needs(spec)
    torch.manual_seed(seed)
    train, started = Split(given.split("train")), time.perf_counter()
    adapter, base = spec.adapter.build(), _on_device(load_model(given.base.folder))
    untuned, linear = untuned_loss(base, spec, train), _linear_weights(base)
    model = adapter.attach(base, seed=seed)
    _quiet_base(model, spec)
    step = choose_step(model, spec, train, emit, untuned=untuned)
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
        layer_parameters=linear,
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
        batches=Batches(train, cut, batch_size=spec.batch_size, seed=seed, noise_alpha=spec.neftune_noise_alpha),
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


def _steps(loop: Loop, groups: list[list[Encoded]]) -> dict[str, Any]:
    """Time the micro-batches, each once and of a shape not met before: so a run meets them as well."""
    _backward(loop, groups[0])
    memory, backward = [_memory_bytes()], []
    for rows in groups[1:] or groups:
        backward.append(_seconds(partial(_backward, loop, rows)))
        memory.append(_memory_bytes())
        if len(backward) >= FEWEST and sum(backward) > ENOUGH_S:
            break
    watched = max(loop.validation.first, key=lambda rows: sum(len(row.ids) for row in rows), default=[])
    forward = [[_priced(row) for row in watched] or groups[0], *(groups[1:3] if len(groups) > 2 else ())]
    update_seconds = _median(partial(_update, loop))
    # Two steps, since in the first one half of LoRA has no gradient yet.
    for number in (1, 2):
        loop.update(Batch(number, [], [groups[0]], 0))
    return {
        "backward_seconds": backward,
        "memory_bytes": memory,
        "forward_seconds": [_median(partial(_forward, loop, rows)) for rows in forward],
        "update_seconds": update_seconds,
    }


def _update(loop: Loop) -> None:
    limit = loop.spec.max_grad_norm or math.inf
    torch.nn.utils.clip_grad_norm_(loop.weights.values(), limit)
    loop.optimizer.step()


def _memory_bytes() -> int:
    return psutil.Process().memory_info().rss


def _median(work: Callable[[], object]) -> float:
    work()
    return median(_seconds(work) for _ in range(ROUNDS))


def _backward(loop: Loop, rows: list[Encoded]) -> None:
    for _ in loop.parts(Batch(0, [], [rows], 0), units=loop.method.units(rows)):
        pass


def _forward(loop: Loop, rows: list[Encoded]) -> None:
    loop.price([rows], Tally())


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _linear_weights(base: PreTrainedModel) -> int:
    """Count the weights of the linear layers before an adapter stands beside them."""
    head = base.get_output_embeddings()
    return sum(part.weight.numel() for part in base.modules() if is_linear(part) and part is not head)


def _facts(step: StepModel) -> dict[str, Any]:
    lm = causal_lm(step.model)
    config, head = lm.config.get_text_config(), lm.get_output_embeddings()
    return {
        "fast": isinstance(step, FastStep),
        "shares": _shares(step),
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "head_parameters": head.weight.numel(),
        "parameters": parameters(step.model),
        "trainable": sum(weight.numel() for weight in step.model.parameters() if weight.requires_grad),
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free(out: Path) -> None:
    """Let go of what a calibration held in memory, and remove its checkpoint."""
    gc.collect()
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
