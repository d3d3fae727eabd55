"""Attention over a layout, plugged into transformers through its public attention interface."""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from luthier.model.layout import Layout, Tile

NAME = "luthier_layout"


@dataclass(frozen=True)
class Place:
    """One tile with its masks as tensors."""

    tile: Tile
    keys_K: torch.Tensor
    """Flat positions of the keys."""
    mask_QK: torch.Tensor
    """Whether a query sees a key, bool."""
    distance_QK: torch.Tensor
    """Tokens between query and key in their row, for sliding windows."""


class LayoutAttention:
    """The masks of one micro-batch, made once and used by every layer."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.places = [_place(layout, tile, device) for tile in layout.tiles]
        self._biases: dict[tuple[int | None, torch.dtype], list[torch.Tensor | None]] = {}

    def biases(self, window: int | None, dtype: torch.dtype) -> list[torch.Tensor | None]:
        """Return per tile the additive mask (Q, K), or None where plain causal attention serves."""
        if (window, dtype) not in self._biases:
            self._biases[window, dtype] = [_bias(place, window, dtype) for place in self.places]
        return self._biases[window, dtype]

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Attend: query (1, H, N, D), key and value (1, G, N, D) → (1, N, H, D)."""
        parts = []
        grouped = query.shape[1] != key.shape[1]
        for place, bias in zip(self.places, self.biases(window, query.dtype), strict=True):
            tile = place.tile
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, tile.start : tile.end],
                    _pick(key, tile),
                    _pick(value, tile),
                    attn_mask=bias,
                    is_causal=bias is None,
                    scale=scale,
                    enable_gqa=grouped,
                )
            )
        return torch.cat(parts, dim=2).transpose(1, 2)


def _pick(states: torch.Tensor, tile: Tile) -> torch.Tensor:
    ranges = [states[:, :, start:end] for start, end in tile.keys]
    return ranges[0] if len(ranges) == 1 else torch.cat(ranges, dim=2)


def _place(layout: Layout, tile: Tile, device: torch.device) -> Place:
    queries = torch.arange(tile.start, tile.end, device=device)
    keys = torch.cat([torch.arange(start, end, device=device) for start, end in tile.keys])
    ends = torch.from_numpy(layout.subtree_end).to(device)[keys]
    positions = torch.from_numpy(layout.positions).to(device)
    sees = (keys[None] <= queries[:, None]) & (queries[:, None] < ends[None])
    return Place(tile, keys, sees, positions[queries][:, None] - positions[keys][None])


def _bias(place: Place, window: int | None, dtype: torch.dtype) -> torch.Tensor | None:
    sees = place.mask_QK
    if window is not None:
        sees = sees & (place.distance_QK < window)
    whole_run = place.tile.causal and bool(torch.equal(sees, torch.ones_like(sees).tril()))
    return (
        None
        if whole_run
        else torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))
    )


def _forward(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: None, **kwargs
) -> tuple[torch.Tensor, None]:
    layout: LayoutAttention = kwargs["layout"]
    return layout(query, key, value, scale=kwargs.get("scaling"), window=kwargs.get("sliding_window")), None


AttentionInterface.register(NAME, _forward)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
