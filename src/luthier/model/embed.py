"""Embeddings: what a frozen causal model's last states say about a text, as one vector."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from luthier.model.adapter import causal_lm

BATCH_TOKENS = 2048
"""Padded tokens computed at once."""
Vectors = NDArray[np.float32]


def embed(
    model: torch.nn.Module,
    texts: Sequence[Sequence[int]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int], None] = lambda rows: None,
) -> Vectors:
    """Return the mean of the last layer's states over each text's tokens, shape (texts, hidden).

    Texts are token ids, none of them empty. Mean pooling serves causal models about as well as the last token
    (Muennighoff 2022, arXiv:2202.08904), without being trained for it.
    """
    lm = causal_lm(model)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found: dict[int, Vectors] = {}
    with torch.inference_mode():
        for batch in _batches(order, [len(text) for text in texts], batch_tokens):
            pooled = _pooled(lm, [texts[i] for i in batch])
            found |= zip(batch, pooled, strict=True)
            progress(len(batch))
    return np.stack([found[i] for i in range(len(texts))])


def _batches(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for i in order:
        # Sorted by length: the newest is the longest, to which all are padded.
        if not batches or (len(batches[-1]) + 1) * lengths[i] > batch_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches


def embed_words(
    model: torch.nn.Module,
    texts: Sequence[Sequence[int]],
    words: Sequence[Sequence[int]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[Vectors]:
    """Return the last layer's states of some tokens of each text, (words, hidden); `words` are their places."""
    lm, lengths = causal_lm(model), [len(text) for text in texts]
    found: dict[int, Vectors] = {}
    with torch.inference_mode():
        for batch in _batches(sorted(range(len(texts)), key=lambda i: lengths[i]), lengths, batch_tokens):
            states, _ = _states(lm, [texts[i] for i in batch])
            found |= {i: states[row, list(words[i])].cpu().numpy() for row, i in enumerate(batch)}
            progress(len(batch))
    return [found[i] for i in range(len(texts))]


def _pooled(lm: PreTrainedModel, texts: list[Sequence[int]]) -> Vectors:
    states, mask = _states(lm, texts)
    weights = mask.to(states)[..., None]
    pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
    return pooled.float().cpu().numpy()


def _states(lm: PreTrainedModel, texts: list[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last layer's states, fp32 (R, T, C), and where there are tokens, (R, T)."""
    longest = max(map(len, texts))
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(list(text))
        mask[row, : len(text)] = 1
    device = lm.device
    states = lm.base_model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
    return states.float(), mask.to(device)
