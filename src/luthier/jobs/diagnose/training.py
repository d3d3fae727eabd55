"""Evidence from training: its settings, its curve, its tensors."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from luthier.advise.diagnose.curve import spikes
from luthier.advise.diagnose.evidence import Curve, Series, Settings, Weights
from luthier.advise.training import LEARNING_RATES, usual_rate
from luthier.core.events import read_events
from luthier.examples.store import Split
from luthier.jobs.diagnose.folder import NO_BASE, NO_PLAN, NO_STEP, Opened, place
from luthier.recipe import Plan

NAMED_ROWS = 8
WARM_STEPS = 2
"""The first steps read the files and compile: they say nothing of waiting."""
FEWEST_UPDATES = 2
"""LoRA's A has no gradient before B has left zero, so the first update leaves it where it is."""
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer", "row_var", "variance")
"""What optimisers remember of gradients: all zero only where there never was one."""


def settings_of(opened: Opened) -> Settings | str:
    """Return what the plan says about training, or why it is not known."""
    plan, base = opened.plan, opened.base
    if plan is None:
        return NO_PLAN
    if base is None:
        return NO_BASE if opened.prepared else NO_STEP
    train = plan.train
    return Settings(
        learning_rate=float(train.learning_rate),
        usual_rate=_usual_rate(plan, _parameters(base.folder)),
        warmup=train.warmup,
        max_grad_norm=train.max_grad_norm,
        batch_size=int(train.batch_size),
        epochs=train.epochs,
        steps=train.steps,
        rank=getattr(train.adapter, "r", None),
        keep_best=train.keep_best,
        micro_batch_tokens=int(train.micro_batch_tokens),
        gradient_checkpointing=train.gradient_checkpointing is True,
    )


def _usual_rate(plan: Plan, parameters: int) -> float:
    optimizer = plan.train.optimizer
    if optimizer.rate_share is None:
        return float(plan.train.learning_rate)
    rate = next(rate for limit, rate in LEARNING_RATES if parameters < limit)
    return usual_rate(rate, plan.train.adapter.traits.rate * optimizer.rate_share, pairs=plan.train.method.takes_pairs)


def _parameters(folder: Path) -> int:
    """Count the numbers in the weight files by their headers."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
        count += sum(_product(shape) for shape in shapes)
    return count


def _product(shape: list[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def curve_of(opened: Opened) -> Curve | str:
    """Return what training measured so far, or why nothing is there."""
    rows = _rows(opened.train_folder / "metrics.jsonl")
    faults = _faults(opened)
    loss = _series(rows, "loss")
    if not loss and not faults:
        return NO_STEP
    waited, worked = (_seconds(rows, name) for name in ("data_seconds", "step_seconds"))
    curve = Curve(
        planned=_planned(opened, rows),
        loss=loss,
        validation=_series(rows, "validation_loss"),
        grad_norm=_series(rows, "grad_norm"),
        wait_share=waited / (waited + worked) if waited + worked > 0 else None,
        waited_s=waited,
        memory_share=_memory_share(rows),
        broken=faults.get("not_finite"),
        out_of_memory=faults.get("out_of_memory"),
    )
    return replace(curve, rows_of=_rows_of(opened, curve)) if loss else curve


def _planned(opened: Opened, rows: dict[int, dict[str, Any]]) -> int:
    """Return how many updates there will be; a run that stopped early was done before the last one planned."""
    if opened.trained is not None:
        return opened.trained.steps
    return int(rows[max(rows)]["steps"]) if rows else 0


def _rows(path: Path) -> dict[int, dict[str, Any]]:
    """Return the measurements by step; a step measured twice counts as measured last, a cut line not at all."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = [json.loads(line) for line in lines if line.strip()]
    return {row["step"]: row for row in rows}


def _series(rows: dict[int, dict[str, Any]], name: str) -> Series:
    return tuple((step, float(row[name])) for step, row in sorted(rows.items()) if row.get(name) is not None)


def _seconds(rows: dict[int, dict[str, Any]], name: str) -> float:
    return float(sum([row[name] for _, row in sorted(rows.items()) if name in row][WARM_STEPS:]))


def _memory_share(rows: dict[int, dict[str, Any]]) -> float | None:
    shares = [row["memory_share"] for _, row in sorted(rows.items()) if "memory_share" in row]
    return median(shares[-max(1, len(shares) // 10) :]) if shares else None


def _faults(opened: Opened) -> dict[str, str]:
    """Return what broke training, by kind; what a later resume got over is forgotten."""
    found: dict[str, tuple[int, str]] = {}
    for event in read_events(opened.run.events):
        if event.room != "train":
            continue
        step = event.data.get("step", 0)
        if "fault" in event.data:
            rows = f", rows {event.data['rows']}" if "rows" in event.data else ""
            found[event.data["fault"]] = (step, f"step {step}: {event.message}{rows}")
        elif event.kind == "metrics":
            found = {kind: fault for kind, fault in found.items() if fault[0] > step}
    return {kind: words for kind, (_, words) in found.items()}


def _rows_of(opened: Opened, curve: Curve) -> dict[int, str]:
    """Name the rows of the steps that stand out."""
    found = spikes(curve)
    if not found or opened.plan is None or opened.prepared is None or not opened.prepared.split("train").exists():
        return {}
    from luthier.train.batches import rows_of_step

    split = Split(opened.prepared.split("train"))
    size = min(int(opened.plan.train.batch_size), len(split))
    named = {}
    for step, _ in found:
        numbers = rows_of_step(step - 1, rows=len(split), batch_size=size, seed=opened.plan.seed)[:NAMED_ROWS]
        named[step] = ", ".join(place(row.file, row.row) for row in map(split.example, numbers))
    return named


def weights_of(opened: Opened) -> Weights | str:
    """Return which trained tensors did not move or are no numbers, in the final weights or the newest checkpoint."""
    checkpoints = sorted((opened.train_folder / "checkpoints").glob("step-*/optimizer.safetensors"))
    final = sorted((opened.train_folder / "weights").glob("*.safetensors"))
    newest = checkpoints[-1].parent if checkpoints else None
    if newest is None and not final:
        return "there is no checkpoint yet"
    if newest is not None and int(newest.name.removeprefix("step-")) < FEWEST_UPDATES:
        return "only one update is made, and an adapter's tensors move from the second on"
    from safetensors import SafetensorError

    looked_at = [newest / "weights.safetensors"] if newest and not final else final
    try:
        zero, broken, count = _looked_at(looked_at)
        still = _never_moved(newest) if newest else ()
    except SafetensorError as error:
        return f"the weights cannot be read: {error}"
    return Weights(
        place="the final weights" if final else f"checkpoint {newest.name if newest else ''}",
        tensors=count,
        still=tuple(dict.fromkeys((*still, *zero))),
        not_finite=tuple(broken),
    )


def _looked_at(files: list[Path]) -> tuple[list[str], list[str], int]:
    """Return the names of LoRA's B tensors that are zero, of tensors that are no numbers, and how many there are."""
    states = [state for path in files for state in _states(path)]
    zero = [name for name, is_finite, is_zero in states if is_finite and is_zero and "lora_B" in name]
    return zero, [name for name, is_finite, _ in states if not is_finite], len(states)


def _states(path: Path) -> Iterator[tuple[str, bool, bool]]:
    """Yield of each tensor its name, whether it is finite, and whether it is zero."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 (it is no mapping)
            tensor = opened.get_tensor(name)
            yield _plain(name), bool(tensor.isfinite().all()), not bool(tensor.any())


def _never_moved(checkpoint: Path) -> tuple[str, ...]:
    """Return the tensors of which the optimiser remembers only zeros, or that it never saw."""
    from safetensors import safe_open

    with safe_open(checkpoint / "weights.safetensors", framework="pt") as opened:
        names = list(opened.keys())
    with safe_open(checkpoint / "optimizer.safetensors", framework="pt") as opened:
        moments = [name.rsplit("::", 1) for name in opened.keys()]  # noqa: SIM118
        kept = {name: key for name, key in moments if key in MOMENTS}
        moved = {name for name, key in kept.items() if bool(opened.get_tensor(f"{name}::{key}").any())}
    # Gradient descent without momentum remembers nothing.
    return () if not kept else tuple(_plain(name) for name in names if name not in moved)


def _plain(name: str) -> str:
    """Return a tensor's name as PEFT writes it to disk, so that final weights and checkpoints name it alike."""
    return name.replace(".default.", ".")
