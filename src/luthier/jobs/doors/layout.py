"""Olive's layout of an output folder: `adapter` and `model`, where its next command looks for them."""

from pathlib import Path

from luthier.core.artifacts import Trained

ADAPTER_CONFIG = "adapter_config.json"


def olive_layout(out: Path, trained: Trained) -> dict[str, Path]:
    """Link `model` to the base model, and `adapter` to the tuned weights where they are an adapter; return both."""
    targets = {"model": trained.prepared.base.folder}
    if (trained.weights / ADAPTER_CONFIG).exists():
        targets["adapter"] = trained.weights
    placed = {}
    for name, target in targets.items():
        placed[name] = out / name
        if placed[name].is_symlink():
            placed[name].unlink()
        if placed[name].exists():
            continue
        real, root = target.resolve(), out.resolve()
        # Within the run folder the way is relative, so that the folder can be moved.
        placed[name].symlink_to(real.relative_to(root) if real.is_relative_to(root) else real)
    return placed
