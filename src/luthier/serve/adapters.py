"""LoRA adapters in memory: one stack per linear layer, replaced whole, so that a step never sees half a change.

An adapter's update of a layer is y += (x A') B', with B times its scale (Hu et al. 2021, arXiv:2106.09685). The stack
of a layer holds the A and B of all adapters one below the other; adapters are row ranges of it. Two batched products
then serve those that lie side by side.
"""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from luthier.core.errors import ModelError
from luthier.model.adapters.lora import BASE_CHANGING
from luthier.model.adapters.qlora import ROUNDED_BASE

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
UNDONE = (
    "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "target_parameters", "lora_bias", "kasa_config",
    "layer_replication", "trainable_token_indices", "megatron_config", "use_qalora", "alora_invocation_tokens",
    "arrow_config", "monteclora_config", "use_bdlora",
)  # fmt: skip
"""Options of PEFT's LoRA that change what is computed and are not served."""

Size = tuple[int, int]
"""Inputs and outputs of a linear layer."""


@dataclass(frozen=True)
class Update:
    """One adapter's update of one layer."""

    down_RK: torch.Tensor
    up_RM: torch.Tensor
    """Transposed, and times the scale."""


@dataclass(frozen=True)
class Adapter:
    """An adapter as read from its folder."""

    folder: Path
    rank: int
    updates: dict[str, Update]
    """By the layer's name in the base model."""


@dataclass(frozen=True)
class Stack:
    """The adapters' updates of one layer, one below the other."""

    down_SK: torch.Tensor
    up_SM: torch.Tensor


@dataclass(frozen=True)
class Registry:
    """The adapters in memory; frozen, so that a step and a change never meet."""

    places: dict[Path, tuple[int, int]]
    """First row and the row after the last, the same in all stacks."""
    loads: dict[Path, int]
    """A number for each reading from disk: what another reading computed is not mistaken for this one's."""
    stacks: dict[str, Stack]

    @property
    def bytes(self) -> int:
        """Memory of all stacks."""
        return sum(t.nbytes for stack in self.stacks.values() for t in (stack.down_SK, stack.up_SM))


EMPTY = Registry({}, {}, {})
_COUNT = itertools.count()


def why_not_beside(folder: Path) -> str | None:
    """Return why an adapter cannot stand beside others on one base, or None where it can."""
    try:
        _rank_and_scale(folder)
    except ModelError as error:
        return error.why or error.what
    return None


def read_adapter(folder: Path, sizes: Mapping[str, Size]) -> Adapter:
    """Return the adapter in a PEFT folder; ModelError where it is damaged, unknown, or of another base."""
    rank, scale = _rank_and_scale(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError("the adapter's weights cannot be read", where={"adapter": folder.name}) from error
    updates = {}
    for key in sorted(key for key in tensors if key.endswith(DOWN)):
        name = key.removeprefix(PREFIX).removesuffix(DOWN)
        down, up = tensors.pop(key).float(), tensors.pop(key.removesuffix(DOWN) + UP, torch.empty(0)).float()
        inputs, outputs = sizes.get(name, (0, 0))
        if down.shape != (rank, inputs) or up.shape != (outputs, rank):
            why = f"its update of {name} does not fit"
            raise ModelError("the adapter is not one of this base model", where={"adapter": folder.name}, why=why)
        if not (down.isfinite().all() and (up * scale).isfinite().all()):
            why = f"its update of {name} is not finite"
            raise ModelError("the adapter's weights are damaged", where={"adapter": folder.name}, why=why)
        updates[name] = Update(down.contiguous(), (up.t() * scale).contiguous())
    if tensors or not updates:
        why = f"it holds {next(iter(tensors), 'nothing')}"
        raise ModelError("the adapter is no plain LoRA", where={"adapter": folder.name}, why=why)
    return Adapter(folder, rank, updates)


def _rank_and_scale(folder: Path) -> tuple[int, float]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config["peft_type"]
        rank, alpha = (int(config["r"]), float(config["lora_alpha"])) if kind == "LORA" else (0, 0.0)
        undone = [name for name in UNDONE if config.get(name)]
        if str(config.get("init_lora_weights")).lower().startswith(BASE_CHANGING):
            undone.append(f"init_lora_weights {config['init_lora_weights']}")
        undone += ["a rounded base"] if (folder / ROUNDED_BASE).exists() else []
        plain = config.get("bias", "none") == "none" and rank > 0
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError("the adapter's config cannot be read", where={"adapter": folder.name}) from error
    if not plain or undone:
        why = f"it uses {', '.join(undone)}" if undone else f"it is {kind}, bias {config.get('bias')}"
        raise ModelError("only plain LoRA adapters are served", where={"adapter": folder.name}, why=why)
    return rank, alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def changed(registry: Registry, *, add: Adapter | None = None, drop: frozenset[Path] = frozenset()) -> Registry:
    """Return a registry with an adapter more, and without those dropped; the given one stays as it is."""
    kept = [(folder, place) for folder, place in registry.places.items() if folder not in drop]
    places, rows = {}, 0
    for folder, (first, last) in kept:
        places[folder] = (rows, rows + last - first)
        rows += last - first
    if add is not None:
        places[add.folder] = (rows, rows + add.rank)
        rows += add.rank
    if not places:
        return EMPTY
    widths = {name: _widths(stack.down_SK, stack.up_SM) for name, stack in registry.stacks.items()}
    widths |= {name: _widths(one.down_RK, one.up_RM) for name, one in (add.updates.items() if add else ())}
    stacks = _room(widths, rows)
    for name, stack in stacks.items():
        old = registry.stacks.get(name)
        for folder, (first, last) in kept:
            start, end = places[folder]
            stack.down_SK[start:end] = old.down_SK[first:last] if old else 0
            stack.up_SM[start:end] = old.up_SM[first:last] if old else 0
        if add is not None:
            start, end = places[add.folder]
            update = add.updates.get(name)
            stack.down_SK[start:end] = update.down_RK if update else 0
            stack.up_SM[start:end] = update.up_RM if update else 0
    loads = {folder: registry.loads.get(folder, next(_COUNT)) for folder in places}
    return Registry(places, loads, stacks)


def _widths(down: torch.Tensor, up: torch.Tensor) -> tuple[int, int]:
    return down.shape[1], up.shape[1]


def _room(widths: Mapping[str, tuple[int, int]], rows: int) -> dict[str, Stack]:
    """Return stacks of so many rows, all in one block: the system gets a large block back whole, small ones never."""
    block = torch.empty(rows * sum(map(sum, widths.values())))
    parts = iter(block.split([rows * width for both in widths.values() for width in both]))
    return {
        name: Stack(next(parts).view(rows, inputs), next(parts).view(rows, outputs))
        for name, (inputs, outputs) in widths.items()
    }
