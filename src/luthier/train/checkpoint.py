"""Checkpoints: enough to go on bit for bit. A folder of safetensors, JSON and a hash manifest; never a pickle."""

import json
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file

from luthier.core.errors import CheckpointError
from luthier.core.files import sha256_of, whole_folder
from luthier.train.optimizers.optimizer import Optimizer
from luthier.train.schedules.rate import Watched

MANIFEST = "sha256.json"
_NAME = re.compile(r"step-(\d{8})")


class Progress(BaseModel):
    """Where a run stands; all of it is restored on resume."""

    model_config = ConfigDict(extra="forbid")

    identity: str
    """Hash of everything that decides the bits: plan, data, base weights."""
    threads: int
    """CPU threads; another number gives other bits."""
    step: int = 0
    """Optimiser steps done."""
    real_tokens: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_loss: float | None = None
    bad_validations: int = 0
    """Validations in a row without improvement."""
    base_loss: float | None = None
    """Validation loss before the first step."""
    recent_losses: list[float] = []
    """Training losses of the last steps, newest last."""
    scaler: dict[str, float] = {}
    """State of the fp16 loss scaler; empty in other precisions."""
    plateau: Watched = Watched()
    """What a plateau schedule remembers."""


Tensors = dict[str, torch.Tensor]


def save(
    folder: Path,
    progress: Progress,
    *,
    weights: Tensors,
    optimizer: Optimizer,
    others: Mapping[str, Tensors | None],
    keep: int,
) -> Path:
    """Write a checkpoint whole or not at all, then remove all but the newest `keep`; `others` are weights by name."""
    path = folder / f"step-{progress.step:08d}"
    with whole_folder(path) as beside:
        save_file(_contiguous(weights), beside / "weights.safetensors")
        save_file(_contiguous(optimizer.tensors()), beside / "optimizer.safetensors")
        save_file(_rng_tensors(), beside / "rng.safetensors")
        for name, kept in others.items():
            if kept is not None:
                save_file(_contiguous(kept), beside / f"{name}.safetensors")
        state = {"progress": progress.model_dump(), "python_rng": random.getstate()}
        state["optimizer"] = {"numbers": optimizer.numbers(), "scalars": optimizer.scalars()}
        (beside / "state.json").write_text(json.dumps(state))
        hashes = {file.name: sha256_of(file) for file in sorted(beside.iterdir())}
        (beside / MANIFEST).write_text(json.dumps(hashes, indent=2))
    for old in _candidates(folder)[keep:]:
        shutil.rmtree(old)
    return path


def newest_valid(folder: Path) -> Path | None:
    """Return the newest checkpoint whose every file matches its manifest; None where there is none."""
    return next((path for path in _candidates(folder) if _valid(path)), None)


def _candidates(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, reverse=True)


def _valid(path: Path) -> bool:
    try:
        hashes: Mapping[str, str] = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return all((path / name).is_file() and sha256_of(path / name) == digest for name, digest in hashes.items())


def read_progress(path: Path, *, identity: str) -> Progress:
    """Return where a checkpoint stands; it must belong to this very run."""
    progress = Progress.model_validate(json.loads((path / "state.json").read_text())["progress"])
    if progress.identity != identity:
        raise CheckpointError(
            "this checkpoint belongs to another run",
            where={"checkpoint": path},
            why="the plan, the data or the base model has changed since",
            hint="start afresh without `--resume`, or restore the recipe it was made with",
        )
    return progress


def restore(path: Path, *, weights: Tensors, optimizer: Optimizer) -> dict[str, Tensors]:
    """Load weights, optimiser and random states in place; return the `average` and the `best` weights, if kept."""
    saved = load_file(path / "weights.safetensors")
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(saved[name])
    state = json.loads((path / "state.json").read_text())["optimizer"]
    optimizer.load(load_file(path / "optimizer.safetensors"), state["scalars"], state["numbers"])
    _load_rng(path)
    kept = {name: path / f"{name}.safetensors" for name in ("average", "best")}
    return {name: load_file(file) for name, file in kept.items() if file.exists()}


def _contiguous(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _rng_tensors() -> Tensors:
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # a user's own loss may draw from it
    tensors = {"torch": torch.get_rng_state(), "numpy_keys": torch.from_numpy(keys.astype(np.int64))}
    tensors["numpy_rest"] = torch.tensor([position, has_gauss, gauss], dtype=torch.float64)
    cuda = enumerate(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else ()
    return tensors | {f"cuda{i}": state for i, state in cuda}


def _load_rng(path: Path) -> None:
    tensors = load_file(path / "rng.safetensors")
    torch.set_rng_state(tensors["torch"])
    position, has_gauss, gauss = tensors["numpy_rest"].tolist()
    keys = tensors["numpy_keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    kind, state, gauss_next = json.loads((path / "state.json").read_text())["python_rng"]
    random.setstate((kind, tuple(state), gauss_next))
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all([tensors[f"cuda{i}"] for i in range(torch.cuda.device_count())])
