"""The head's first weights: a linear fit on the untuned model's vectors of the rows.

A drawn head would pull the features out of shape before it has learnt anything itself (Kumar et al. 2022,
arXiv:2202.10054); few rows make too few updates to mend that.
"""

import numpy as np
import torch
from transformers import PreTrainedModel

from luthier.core.events import Emit, Event
from luthier.examples.store import Encoded, Split
from luthier.model.headcard import HeadCard
from luthier.model.headed import head_modules
from luthier.model.headstep import BATCH_TOKENS, HeadStep, batched
from luthier.model.linear import Vectors, label_weights, number_weights
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.regress.spec import RegressSpec
from luthier.train.spec import AnyMethod

MOST_ROWS = 4000
"""Rows of the fit at most: the first ones."""
LEAST_SPREAD = 0.01
"""Of a vector's dimensions; below it the fitted weights are so large that no small step of training is small."""


def start_head(
    model: PreTrainedModel, card: HeadCard, method: AnyMethod, train: Split, emit: Emit, *, seed: int
) -> None:
    """Set the weights of a head that starts from a linear fit; a drawn one stays as it is."""
    if not isinstance(method, ClassifySpec | RegressSpec) or method.start == "drawn":
        return
    count, layer = min(len(train), MOST_ROWS), output_layer(model, card)
    vectors = _read_by(layer, HeadStep(model, card), [train.encoded(row) for row in range(count)])
    spread = float(np.median(vectors.std(axis=0)))
    if spread < LEAST_SPREAD:
        why = f"what it reads hardly differs from text to text (spread {spread:.2g})"
        emit(Event(room="train", kind="note", message=f"the head is drawn, since {why}"))
        return
    weights, bias = _fitted(vectors, card, train, seed=seed, centred=layer.bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
    message = f"the head starts from a linear fit on the untuned model's vectors of {count:,} rows"
    emit(Event(room="train", kind="note", message=message))


def output_layer(model: PreTrainedModel, card: HeadCard) -> torch.nn.Linear:
    """Return the layer that gives the head's outputs: the last one of so many."""
    parts = [model.get_submodule(name) for name in head_modules(model) if hasattr(model, name)]
    layers = [layer for part in parts for layer in part.modules() if isinstance(layer, torch.nn.Linear)]
    return [layer for layer in layers if layer.out_features == card.outputs][-1]


@torch.no_grad()
def _read_by(layer: torch.nn.Linear, step: HeadStep, rows: list[Encoded]) -> Vectors:
    """Return what the layer reads of each row, (N, D): of a row's tokens the mean, or the last one."""
    read: list[torch.Tensor] = []
    listening = layer.register_forward_pre_hook(lambda _, given: read.append(given[0].detach().float()))
    found = np.zeros((len(rows), layer.in_features), dtype=np.float32)
    try:
        for places in batched([len(row.ids) for row in rows], BATCH_TOKENS):
            step.logits([rows[place] for place in places])
            states = read.pop()
            for state, place in zip(states, places, strict=True):
                found[place] = _of_row(state, len(rows[place].ids), step.card).cpu().numpy()
    finally:
        listening.remove()
    return found


def _of_row(state: torch.Tensor, tokens: int, card: HeadCard) -> torch.Tensor:
    if state.dim() == 1:
        return state
    return state[:tokens].mean(dim=0) if card.pooling == "mean" else state[tokens - 1]


def _fitted(
    vectors: Vectors, card: HeadCard, train: Split, *, seed: int, centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    examples = [train.example(row) for row in range(len(vectors))]
    if card.kind == "score":
        numbers = np.array([((one.score or 0.0) - card.mean) / card.spread for one in examples])
        return number_weights(vectors, numbers, centred=centred)
    if card.kind == "label":
        return label_weights(vectors, [one.label or "" for one in examples], card.labels, seed=seed, centred=centred)
    each = []
    for label in card.labels:
        words = ["yes" if label in (one.labels or ()) else "no" for one in examples]
        weights, bias = label_weights(vectors, words, ("no", "yes"), seed=seed, centred=centred)
        # A logit by itself is what the two differ by.
        each.append((weights[1] - weights[0], bias[1] - bias[0]))
    return np.stack([weights for weights, _ in each]), np.array([bias for _, bias in each])
