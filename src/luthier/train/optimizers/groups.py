"""Which trained weights step alike: their share of the learning rate, their weight decay, and what they are."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from luthier.core.errors import RecipeError
from luthier.train.spec import TrainSpec

LAYER = re.compile(r"\.(?:layers?|h)\.(\d+)\.")
EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|embeddings|wte|wpe)\.")
HEAD = re.compile(r"(?:^|\.)(?:lm_head|score|classifier)\.")
SCALE = re.compile(r"\.ia3_l\b")
UP = re.compile(r"\.lora_(?:embedding_)?B\b")
"""The second of LoRA's two matrices, which begins at zero."""


def groups_of(weights: Mapping[str, torch.nn.Parameter], spec: TrainSpec) -> list[dict[str, Any]]:
    """Return the groups, in the order in which their first weights stand; `share` is of the step's learning rate."""
    layers = 1 + max((layer for name in weights if (layer := layer_of(name)) is not None), default=-1)
    if spec.loraplus_ratio is not None and not any(UP.search(name) for name in weights):
        raise RecipeError(
            f"the adapter `{spec.adapter.name}` has no B matrices",
            where={"field": "train.loraplus_ratio"},
            hint="leave it out, or train with `adapter: lora`",
        )
    if spec.layer_decay is not None and not layers:
        why = "none of its trained weights is named after a layer"
        raise RecipeError("this model's layers are not known", where={"field": "train.layer_decay"}, why=why)

    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for name, weight in weights.items():
        share = layer_share(name, spec.layer_decay, layers)
        if spec.loraplus_ratio is not None and UP.search(name):
            share *= spec.loraplus_ratio
        # Norms, biases and other vectors are not pulled towards zero, nor IA3's, which are stored as matrices.
        decay = spec.weight_decay if weight.ndim > 1 and not SCALE.search(name) else 0.0
        # A matrix of one row or column is a vector: IA3's scales, and LoRA's parts of rank 1.
        is_matrix = weight.ndim == 2 and min(weight.shape) > 1 and not EMBEDDING.search(name) and not HEAD.search(name)
        alike = {"share": share, "weight_decay": decay, "is_matrix": is_matrix}
        groups.setdefault(tuple(alike.values()), {"params": [], **alike})["params"].append(weight)
    return list(groups.values())


def layer_of(name: str) -> int | None:
    """Return the number of the decoder layer that a weight belongs to, from 0 at the bottom."""
    found = LAYER.search(name)
    return int(found[1]) if found else None


def layer_share(name: str, decay: float | None, layers: int) -> float:
    """Return the share of the rate: the top layer and what follows it have all of it, the embedding least."""
    if decay is None:
        return 1.0
    layer = layer_of(name)
    if layer is not None:
        return decay ** (layers - 1 - layer)
    return decay**layers if EMBEDDING.search(name) else 1.0
