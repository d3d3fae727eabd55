"""Attention over a layout: tiles of queries against just the keys they may see, many tiles in one batched product.

It is plugged into transformers through its public attention interface and used by the fast decoder alike.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from luthier.model.layout import Layout, Tile

NAME = "luthier_layout"
PADDING = 1.25
"""Tiles whose key counts differ by at most this factor, and PADDING_KEYS more, are computed together."""
PADDING_KEYS = 32
KEPT_KEYS = 512
"""Up to so many keys the probabilities are kept for backward; beyond, they are computed again."""


@dataclass(frozen=True)
class Bucket:
    """T tiles computed together: Q query places and K key places each, some of them padding.

    The first Q key places are the queries themselves; the ranges before them follow.
    """

    tiles: tuple[Tile, ...]
    queries_TQ: torch.Tensor
    keys_TK: torch.Tensor
    sees_TQK: torch.Tensor
    distance_TQK: torch.Tensor
    """Tokens between query and key in their row, for sliding windows."""
    real_TQ: torch.Tensor
    """False where a query place is padding."""
    real_M: torch.Tensor
    """The M real query places, counted through all tiles."""
    flat_M: torch.Tensor
    """Where those stand in the flat sequence."""


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
    for tile in sorted(tiles, key=lambda tile: (tile.before_count, tile.before, tile.start)):
        if groups and tile.before_count <= PADDING * groups[-1][0].before_count + PADDING_KEYS:
            groups[-1].append(tile)
        else:
            groups.append([tile])
    return groups


def _bucket(layout: Layout, tiles: list[Tile], device: torch.device) -> Bucket:
    width, longest = max(t.end - t.start for t in tiles), max(t.before_count for t in tiles)
    starts = torch.tensor([t.start for t in tiles])[:, None]
    ends = torch.tensor([t.end for t in tiles])[:, None]
    place = starts + torch.arange(width)
    real = place < ends
    # One place past the end stands for padding: its end is 0, so nobody sees it.
    before = torch.full((len(tiles), longest), layout.length)
    for row, tile in zip(before, tiles, strict=True):
        ranges = [torch.arange(start, end) for start, end in tile.before]
        row[: tile.before_count] = torch.cat(ranges) if ranges else row[:0]
    keys = torch.cat([place.where(real, layout.length), before], dim=1)
    queries = place.minimum(ends - 1)

    subtree_end = torch.cat([torch.from_numpy(layout.subtree_end), torch.zeros(1, dtype=torch.long)])
    positions = torch.cat([torch.from_numpy(layout.positions), torch.zeros(1, dtype=torch.long)])
    q, k = queries[:, :, None], keys[:, None, :]
    sees = (k <= q) & (q < subtree_end[k])
    tensors = (queries, keys.clamp_max(layout.length - 1), sees, positions[q] - positions[k], real)
    chosen = (real.flatten().nonzero().flatten(), place[real])
    return Bucket(tuple(tiles), *(tensor.to(device) for tensor in (*tensors, *chosen)))


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
            out[bucket.flat_M] = _real(torch.bmm(probabilities, v), bucket, heads, groups)
            kept.append(probabilities if bucket.keys_TK.shape[1] <= KEPT_KEYS else None)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.layout, ctx.scaling = layout, scaling
        return out

    @staticmethod
    def backward(ctx, grad_out):
        query, key, value, *all_kept = ctx.saved_tensors
        scale, window = ctx.scaling
        heads, groups = query.shape[1], key.shape[1]
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        biases = ctx.layout.biases(window, query.dtype)
        for bucket, bias, kept in zip(ctx.layout.buckets, biases, all_kept, strict=True):
            q, k, v = _queries(query, bucket, groups), _keys(key, bucket), _keys(value, bucket)
            q *= scale
            p = kept if kept is not None else _probabilities(q, k, bias, groups)
            grad = _queries(grad_out, bucket, groups, only_real=True)

            _add_keys(grad_value, torch.bmm(p.transpose(1, 2), grad), bucket)
            grad_p = torch.bmm(grad, v.transpose(1, 2))
            grad_s = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            _add_keys(grad_key, torch.bmm(grad_s.transpose(1, 2), q), bucket)
            grad_query[bucket.flat_M] = _real(torch.bmm(grad_s, k).mul_(scale), bucket, heads, groups)
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


def _real(places: torch.Tensor, bucket: Bucket, heads: int, groups: int) -> torch.Tensor:
    """Return the real query places of (T G, Q R, D) as (M, H, D)."""
    tiles, width = bucket.queries_TQ.shape
    by_query = places.view(tiles, groups, width, heads // groups, -1).transpose(1, 2)
    return by_query.reshape(tiles * width, heads, -1)[bucket.real_M]


def _keys(states_NGD: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """Gather key places as (T G, K, D)."""
    return states_NGD[bucket.keys_TK].transpose(1, 2).flatten(0, 1)


def _add_keys(grad_NGD: torch.Tensor, places: torch.Tensor, bucket: Bucket) -> None:
    """Add the gradients of gathered keys, (T G, K, D), where the keys came from."""
    tiles, width = bucket.queries_TQ.shape
    groups = grad_NGD.shape[1]
    places = places.view(tiles, groups, places.shape[1], -1).transpose(1, 2)
    grad_NGD[bucket.flat_M] += places[:, :width].reshape(tiles * width, groups, -1)[bucket.real_M]

    # Tiles under the same prefix are neighbours: their shares of its gradient are summed first.
    for before, same in groupby(range(tiles), key=lambda index: bucket.tiles[index].before):
        chosen = list(same)
        grads = places[chosen[0] : chosen[-1] + 1, width:].sum(0)
        offset = 0
        for start, end in before:
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
