"""Noise on the embeddings of training rows (NEFTune, Jain et al. 2023, arXiv:2310.05914).

Each row's noise is a pure function of its seed: the cut into micro-batches and the kind of step do not change it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from luthier.examples.store import Encoded


def noise_of(row: Encoded, channels: int) -> torch.Tensor:
    """Return the noise on a row's tokens, fp32 (L, C): even within ± alpha / sqrt(L C), or zero."""
    shape = len(row.ids), channels
    if row.noise is None:
        return torch.zeros(shape)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(row.noise.seed))
    return drawn.mul_(2).sub_(1).mul_(row.noise.alpha / math.sqrt(len(row.ids) * channels))


def is_noisy(rows: Sequence[Encoded]) -> bool:
    """Tell whether any row has noise."""
    return any(row.noise is not None for row in rows)


def padded_noise(rows: Sequence[Encoded], channels: int) -> torch.Tensor | None:
    """Return the noise on rows that are padded at their ends, (R, T, C), or None where there is none."""
    if not is_noisy(rows):
        return None
    noise = torch.zeros(len(rows), max(len(row.ids) for row in rows), channels)
    for i, row in enumerate(rows):
        noise[i, : len(row.ids)] = noise_of(row, channels)
    return noise


@contextmanager
def noisy(embedding: torch.nn.Module, noise: torch.Tensor | None) -> Iterator[None]:
    """Let an embedding add noise to what it returns, for a while."""
    if noise is None:
        yield
        return
    hook = embedding.register_forward_hook(lambda module, given, found: found + noise.to(found))
    try:
        yield
    finally:
        hook.remove()
