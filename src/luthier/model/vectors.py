"""Vectors of texts: the tokens' last states, made one by their mean or by the model's own place, at length 1."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from luthier.examples.store import Encoded
from luthier.model.adapter import causal_lm
from luthier.model.checks import is_encoder_config
from luthier.model.headcard import HeadCard
from luthier.model.headstep import BATCH_TOKENS, HeadStep, Logits, batched, head_logits
from luthier.model.step import Precision, TargetLoss, autocast

Vectors = NDArray[np.float32]


class VectorStep:
    """Pads texts, runs the whole model, and returns a vector of each."""

    def __init__(self, model: torch.nn.Module, card: HeadCard, *, precision: Precision = "fp32") -> None:
        self.model = model
        self.card = card
        self.precision = precision
        self._is_encoder = is_encoder_config(causal_lm(model).config.to_dict())

    def vectors(self, texts: Sequence[Encoded]) -> torch.Tensor:
        """Return the texts' vectors, fp32 (R, D), with gradients."""
        device = next(self.model.parameters()).device
        longest = max(len(text.ids) for text in texts)
        ids = torch.full((len(texts), longest), int(self.model.config.pad_token_id or 0))
        seen = torch.zeros(len(texts), longest, dtype=torch.long)
        for i, text in enumerate(texts):
            ids[i, : len(text.ids)] = torch.tensor(text.ids)
            seen[i, : len(text.ids)] = 1
        seen = seen.to(device)
        with autocast(device, self.precision):
            states = self.model(input_ids=ids.to(device), attention_mask=seen).last_hidden_state.float()
        pooled = self._pooled(states, seen)
        return normalize(pooled, dim=-1) if self.card.normalize else pooled

    def columns(self, rows: Sequence[Encoded]) -> list[torch.Tensor]:
        """Return the vectors of rows: those of the texts, and of each text that they are compared with, (R, D) each."""
        return [self.vectors(texts) for texts in zip(*(row.answers for row in rows), strict=True)]

    def target_loss(self, rows: Sequence[Encoded]) -> TargetLoss:
        """Refuse: vectors predict no tokens."""
        raise TypeError("a model of vectors predicts no tokens")

    def row_logprobs(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Refuse: vectors predict no tokens."""
        raise TypeError("a model of vectors predicts no tokens")

    def _pooled(self, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return one state of each text, (R, D), of (R, T, D)."""
        if self.card.pooling == "mean":
            weights = seen.to(states.dtype)[..., None]
            return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
        if self._is_encoder:
            return states[:, 0]
        return states[torch.arange(len(states), device=states.device), seen.sum(dim=1) - 1]


def vectored(model: object) -> VectorStep:
    """Return the step of a method that trains vectors; any other is a mistake of ours."""
    if not isinstance(model, VectorStep):
        raise TypeError("this method needs a model of vectors")
    return model


def text_vectors(
    step: VectorStep, texts: Sequence[Encoded], *, progress: Callable[[int], None] = lambda rows: None
) -> Vectors:
    """Return the vectors of texts, (N, D), without gradients."""
    found: dict[int, Vectors] = {}
    with torch.inference_mode():
        for places in batched([len(text.ids) for text in texts], BATCH_TOKENS):
            vectors = step.vectors([texts[place] for place in places]).cpu().numpy()
            found |= zip(places, vectors, strict=True)
            progress(len(places))
    return np.stack([found[place] for place in range(len(texts))])


def step_for(model: torch.nn.Module, card: HeadCard) -> HeadStep | VectorStep:
    """Return the step of a model with a head, or of one that gives vectors."""
    return VectorStep(model, card) if card.is_vector else HeadStep(model, card)


def outputs_of(step: HeadStep | VectorStep, rows: Sequence[Encoded]) -> list[Logits]:
    """Return what a head says of each row, or each text's vector."""
    return head_logits(step, rows) if isinstance(step, HeadStep) else list(text_vectors(step, rows).astype(np.float64))
