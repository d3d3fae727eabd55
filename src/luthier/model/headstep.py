"""A model with a head on rows: padded, run whole, and what it says in words."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from luthier.examples.store import Encoded
from luthier.model.adapter import causal_lm
from luthier.model.headcard import HeadCard
from luthier.model.step import Precision, TargetLoss, autocast

BATCH_TOKENS = 4096
"""Padded tokens computed at once."""
Logits = NDArray[np.float64]


class HeadStep:
    """Pads rows, runs the whole model, and returns what the head says."""

    def __init__(self, model: torch.nn.Module, card: HeadCard, *, precision: Precision = "fp32") -> None:
        self.model = model
        self.card = card
        self.precision = precision

    def logits(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Return the head's outputs, fp32, with gradients: (R, K) of rows, or (W, K) of all rows' words in order.

        Of questions it is all tokens of the rows, one after the other.
        """
        device = next(self.model.parameters()).device
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self._pad_id)
        seen = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            seen[i, : len(row.ids)] = 1
        with autocast(device, self.precision):
            said = self._inner(input_ids=ids.to(device), attention_mask=seen.to(device), **self._segments(rows, ids))
        if self.card.kind == "quote":
            return torch.stack([said.start_logits, said.end_logits], dim=-1).float()[seen.to(device).bool()]
        logits = said.logits.float()
        if self.card.kind != "spans":
            return logits if self.card.pooling == "model" else _mean(logits, seen.to(device))
        places = [(i, token) for i, row in enumerate(rows) for token in row.words]
        row, token = torch.tensor(places, dtype=torch.long, device=device).view(-1, 2).unbind(1)
        return logits[row, token]

    @property
    def _inner(self) -> torch.nn.Module:
        """The model that runs: PEFT's own class for questions does not hand on which tokens are the text's."""
        return causal_lm(self.model) if self.card.kind == "quote" else self.model

    def _segments(self, rows: Sequence[Encoded], ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return which tokens are the text's and what ends it, where the model is to be told."""
        if not self.card.segments:
            return {}
        second = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            second[i, row.prompt_tokens : len(row.ids)] = 1
        return {"token_type_ids": second.to(next(self.model.parameters()).device)}

    def target_loss(self, rows: Sequence[Encoded]) -> TargetLoss:
        """Refuse: a head predicts no tokens."""
        raise TypeError("a model with a head predicts no tokens")

    def row_logprobs(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Refuse: a head predicts no tokens."""
        raise TypeError("a model with a head predicts no tokens")

    @property
    def _pad_id(self) -> int:
        return int(self.model.config.pad_token_id or 0)


def _mean(logits: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return the mean over each row's own tokens, (R, K), of (R, T, K)."""
    weights = seen.to(logits.dtype)[..., None]
    return (logits * weights).sum(dim=1) / weights.sum(dim=1)


def headed(model: object) -> HeadStep:
    """Return the step of a method with a head; any other is a mistake of ours."""
    if not isinstance(model, HeadStep):
        raise TypeError("this method needs a model with a head")
    return model


def head_logits(
    step: HeadStep, rows: Sequence[Encoded], *, progress: Callable[[int], None] = lambda rows: None
) -> list[Logits]:
    """Return what the head says of each row: (K,), or (W, K) of its words, or of all its tokens."""
    found: list[Logits] = [np.zeros(0)] * len(rows)
    with torch.inference_mode():
        for places in batched([len(row.ids) for row in rows], BATCH_TOKENS):
            batch = [rows[place] for place in places]
            said = step.logits(batch).double().cpu().numpy()
            counts = [step.card.counted(row) for row in batch]
            parts = np.split(said, np.cumsum([1 if count is None else count for count in counts])[:-1])
            kept = [part[0] if count is None else part for part, count in zip(parts, counts, strict=True)]
            found = _put(found, places, kept)
            progress(len(batch))
    return found


def probabilities(card: HeadCard, logits: Logits, *, temperature: float | None = None) -> Logits:
    """Return the probability of each label, at the card's temperature or another; of several, each by itself."""
    milder = logits / (temperature or card.temperature)
    if card.kind == "labels":
        return np.asarray(0.5 * (1 + np.tanh(milder / 2)))
    powers = np.exp(milder - milder.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def batched(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return places of rows of like length, in batches of at most so many padded tokens."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        # Sorted by length: the newest is the longest, to which all are padded.
        if not batches or (len(batches[-1]) + 1) * lengths[place] > most:
            batches.append([])
        batches[-1].append(place)
    return batches


def _put(found: list[Logits], places: Sequence[int], parts: Sequence[Logits]) -> list[Logits]:
    for place, part in zip(places, parts, strict=True):
        found[place] = part
    return found
