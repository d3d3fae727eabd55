"""Attention over a layout: tiles of queries against just the keys they may see, many tiles in one batched product.

It is plugged into transformers through its public attention interface and used by the fast decoder alike.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from luthier.model.layout import Layout, Tile

NAME = "luthier_layout"
PADDING = 1.25
"""Tiles whose key counts differ by at most this factor are computed together."""
KEPT_KEYS = 512
"""Up to so many keys the probabilities are kept for backward; beyond, they are computed again."""


@dataclass(frozen=True)
class Bucket:
    """T tiles computed together: Q query places and K key places each, some of them padding."""

    tiles: tuple[Tile, ...]
    queries_TQ: torch.Tensor
    real_TQ: torch.Tensor
    """False where a query place is padding."""
    keys_TK: torch.Tensor
    sees_TQK: torch.Tensor
    distance_TQK: torch.Tensor
    """Tokens between query and key in their row, for sliding windows."""


class LayoutAttention:
    """The masks of one micro-batch, made once and used by every layer."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.buckets = [_bucket(layout, tiles, device) for tiles in _alike(layout.tiles)]
        self._biases: dict[tuple[int | None, torch.dtype], list[torch.Tensor]] = {}

    def biases(self, window: int | None, dtype: torch.dtype) -> list[torch.Tensor]:
        """Return per bucket the additive mask (T, 1, Q, 1, K)."""
        if (window, dtype) not in self._biases:
            self._biases[window, dtype] = [_bias(bucket, window, dtype) for bucket in self.buckets]
        return self._biases[window, dtype]

    def __call__(
        self,
        query_NHD: torch.Tensor,
        key_NGD: torch.Tensor,
        value_NGD: torch.Tensor,
        *,
        scale: float,
        window: int | None = None,
    ) -> torch.Tensor:
        """Return the attended values (N, H, D); H query heads share G key heads."""
        return _Attend.apply(query_NHD, key_NGD, value_NGD, self, Scaling(scale, window))


def _alike(tiles: tuple[Tile, ...]) -> list[list[Tile]]:
    """Group tiles of similar key counts."""
    groups: list[list[Tile]] = []
    for tile in sorted(tiles, key=lambda tile: (tile.key_count, tile.start)):
        if groups and tile.key_count <= PADDING * groups[-1][0].key_count:
            groups[-1].append(tile)
        else:
            groups.append([tile])
    return groups


def _bucket(layout: Layout, tiles: list[Tile], device: torch.device) -> Bucket:
    width, keys = max(t.end - t.start for t in tiles), max(t.key_count for t in tiles)
    queries = torch.tensor([[min(t.start + i, t.end - 1) for i in range(width)] for t in tiles])
    real = torch.tensor([[t.start + i < t.end for i in range(width)] for t in tiles])
    key_places = [[place for start, end in t.keys for place in range(start, end)] for t in tiles]
    at = torch.tensor([places + [layout.length] * (keys - len(places)) for places in key_places])
    # One place past the end stands for padding: it ends where it begins, so nobody sees it.
    ends = torch.cat([torch.from_numpy(layout.subtree_end), torch.zeros(1, dtype=torch.long)])
    positions = torch.cat([torch.from_numpy(layout.positions), torch.zeros(1, dtype=torch.long)])
    q, k = queries[:, :, None], at[:, None, :]
    sees = (k <= q) & (q < ends[k])
    tensors = (queries, real, at.clamp_max(layout.length - 1), sees, positions[q] - positions[k])
    return Bucket(tuple(tiles), *(tensor.to(device) for tensor in tensors))


def _bias(bucket: Bucket, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    sees = bucket.sees_TQK if window is None else bucket.sees_TQK & (bucket.distance_TQK < window)
    bias = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))
    return bias[:, None, :, None, :]


class Scaling(NamedTuple):
    """What multiplies the scores, and how far back a query sees."""

    scale: float
    window: int | None


class _Attend(torch.autograd.Function):
    """softmax(scale q k' + bias) v, tile by tile."""

    @staticmethod
    def forward(ctx, query, key, value, layout: LayoutAttention, scaling: Scaling):
        scale, window = scaling
        heads, groups = query.shape[1], key.shape[1]
        out = torch.empty_like(query)
        kept = []
        for bucket, bias in zip(layout.buckets, layout.biases(window, query.dtype), strict=True):
            q, k, v = (
                _queries(query, bucket, groups),
                _keys(key, bucket),
                _keys(value, bucket),
            )
            probabilities = _probabilities(q * scale, k, bias, groups)
            places = _back(torch.bmm(probabilities, v), bucket, heads, groups)
            out[bucket.queries_TQ[bucket.real_TQ]] = places[bucket.real_TQ]
            kept.append(probabilities if bucket.keys_TK.shape[1] <= KEPT_KEYS else None)
        ctx.save_for_backward(query, key, value)
        ctx.kept, ctx.layout, ctx.scale, ctx.window = kept, layout, scale, window
        return out

    @staticmethod
    def backward(ctx, grad_out):
        query, key, value = ctx.saved_tensors
        heads, groups = query.shape[1], key.shape[1]
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        biases = ctx.layout.biases(ctx.window, query.dtype)
        for bucket, bias, kept in zip(ctx.layout.buckets, biases, ctx.kept, strict=True):
            q, k, v = _queries(query, bucket, groups), _keys(key, bucket), _keys(value, bucket)
            q *= ctx.scale
            p = kept if kept is not None else _probabilities(q, k, bias, groups)
            grad = _queries(grad_out, bucket, groups, only_real=True)

            _add_keys(grad_value, torch.bmm(p.transpose(1, 2), grad), bucket)
            grad_p = torch.bmm(grad, v.transpose(1, 2))
            grad_s = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            _add_keys(grad_key, torch.bmm(grad_s.transpose(1, 2), q), bucket)
            places = _back(torch.bmm(grad_s, k).mul_(ctx.scale), bucket, heads, groups)
            grad_query[bucket.queries_TQ[bucket.real_TQ]] = places[bucket.real_TQ]
        return grad_query, grad_key, grad_value, None, None


def _probabilities(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, groups: int) -> torch.Tensor:
    """Return softmax over keys, (T G, Q R, K); q is scaled."""
    tiles, _, width, _, keys = bias.shape
    scores = torch.bmm(q, k.transpose(1, 2))
    scores.view(tiles, groups, width, -1, keys).add_(bias)
    return torch.softmax(scores, dim=-1)


def _queries(states_NHD: torch.Tensor, bucket: Bucket, groups: int, *, only_real: bool = False) -> torch.Tensor:
    """Gather query places as (T G, Q R, D): the R heads that share a key head stand together."""
    tiles, width = bucket.queries_TQ.shape
    heads, channels = states_NHD.shape[1:]
    picked = states_NHD[bucket.queries_TQ]
    if only_real:
        picked.mul_(bucket.real_TQ[:, :, None, None])
    picked = picked.view(tiles, width, groups, heads // groups, channels).transpose(1, 2)
    return picked.reshape(tiles * groups, -1, channels)


def _back(places: torch.Tensor, bucket: Bucket, heads: int, groups: int) -> torch.Tensor:
    """Return (T G, Q R, D) as (T, Q, H, D)."""
    tiles, width = bucket.queries_TQ.shape
    return places.view(tiles, groups, width, heads // groups, -1).transpose(1, 2).reshape(tiles, width, heads, -1)


def _keys(states_NGD: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """Gather key places as (T G, K, D)."""
    return states_NGD[bucket.keys_TK].transpose(1, 2).flatten(0, 1)


def _add_keys(grad_NGD: torch.Tensor, places: torch.Tensor, bucket: Bucket) -> None:
    """Add the gradients of gathered keys, (T G, K, D), where the keys came from."""
    groups = grad_NGD.shape[1]
    places = places.view(len(bucket.tiles), groups, places.shape[1], -1).transpose(1, 2)
    for tile, grads in zip(bucket.tiles, places, strict=True):
        offset = 0
        for start, end in tile.keys:
            grad_NGD[start:end] += grads[offset : offset + end - start]
            offset += end - start


def _forward(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: None, **kwargs
) -> tuple[torch.Tensor, None]:
    """Serve transformers: (1, H, N, D) states in, (1, N, H, D) out."""
    attention: LayoutAttention = kwargs["layout"]
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    # Under autocast the rotation leaves query and key in fp32; all three are wanted in the products' dtype.
    states = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    return attention(*states, scale=scale, window=kwargs.get("sliding_window"))[None], None


AttentionInterface.register(NAME, _forward)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
