"""Attention with a shared prefix: its keys and values stay one row, whatever the batch."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache, PreTrainedModel
from transformers.masking_utils import sdpa_mask

NAME = "luthier_prefix"
PLAIN_ATTENTION = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3", "gpt2")
"""Model types whose attention is softmax(scale q k) v with nothing added, checked by tests."""


def can_share(model: PreTrainedModel, total_tokens: int) -> bool:
    """Tell whether a shared prefix is exact: plain attention, and no window shorter than the whole."""
    windows = [layer.sliding_window for layer in DynamicCache(config=model.config).layers if layer.is_sliding]
    return model.config.model_type in PLAIN_ATTENTION and all(total_tokens <= window for window in windows)


def compute_prefix(model: PreTrainedModel, ids: Sequence[int]) -> Cache:
    """Run the prefix once and return its keys and values, one row per layer."""
    cache = DynamicCache(config=model.config)
    tokens = torch.tensor([list(ids)], device=model.device)
    model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


@contextlib.contextmanager
def attention_by(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let the model use another attention for a while; its own returns afterwards."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attend(
    module: torch.nn.Module,
    query_BHQD: torch.Tensor,
    key_BGSD: torch.Tensor,
    value_BGSD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    shared_prefix: Cache = given["shared_prefix"]
    scaling: float | None = given.get("scaling")
    layer = shared_prefix.layers[module.layer_idx]
    batch, heads, queries, width = query_BHQD.shape
    groups = key_BGSD.shape[1]
    scale = width**-0.5 if scaling is None else scaling

    # The heads of a group share keys: they become more queries, so that one product serves them all.
    query = (query_BHQD * scale).reshape(batch, groups, heads // groups * queries, width)
    to_suffix = query @ key_BGSD.transpose(-1, -2)
    to_suffix = _masked(to_suffix.view(batch, heads, queries, -1), attention_mask).view(to_suffix.shape)

    # One product over the whole batch, since every row sees the same prefix.
    together = query.transpose(0, 1).reshape(groups, -1, width)
    to_prefix = (together @ layer.keys[0].transpose(-1, -2)).view(groups, batch, -1, layer.keys.shape[-2])
    weights = torch.cat([to_prefix.transpose(0, 1), to_suffix], dim=-1).softmax(dim=-1)

    on_prefix, on_suffix = weights.split([layer.keys.shape[-2], key_BGSD.shape[-2]], dim=-1)
    from_prefix = on_prefix.transpose(0, 1).reshape(groups, -1, layer.keys.shape[-2]) @ layer.values[0]
    output = from_prefix.view(groups, batch, -1, width).transpose(0, 1) + on_suffix @ value_BGSD
    return output.reshape(batch, heads, queries, width).transpose(1, 2).contiguous(), None


def _masked(scores_BHQS: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Hide what a query may not see; without a mask several queries are causal and one sees everything."""
    queries, keys = scores_BHQS.shape[-2:]
    if mask is None:
        if queries == 1:
            return scores_BHQS
        mask = torch.ones(queries, keys, dtype=torch.bool, device=scores_BHQS.device).tril(keys - queries)
    return scores_BHQS.masked_fill(~mask, float("-inf"))


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
