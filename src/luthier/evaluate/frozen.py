"""Frozen: labels from a model's vectors without tuning it, by nearest neighbours or a linear head."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate.nearest import Space, Vectors
from luthier.model.linear import fitted_head

NEIGHBOURS = 8


def neighbours(train: Vectors, labels: Sequence[str], test: Vectors) -> list[str]:
    """Return the commonest label among each text's nearest training texts; on a tie that of the nearest."""
    ranked = Space.of(train).ranked(test, min(NEIGHBOURS, len(train)))
    return [Counter(labels[place] for place in row).most_common(1)[0][0] for row in ranked]


def linear_head(train: Vectors, labels: Sequence[str], test: Vectors, *, seed: int) -> list[str]:
    """Return what logistic regression on standardised vectors says, its strength chosen by cross-validation."""
    if len(set(labels)) < 2:
        return [labels[0]] * len(test)
    said: NDArray[np.str_] = fitted_head(train, labels, seed=seed).predict(test)
    return [str(label) for label in said]


def linear_probabilities(
    train: Vectors, labels: Sequence[str], test: Vectors, *, known: Sequence[str], seed: int
) -> NDArray[np.float64]:
    """Return the probability that such a head gives each known label, (rows, labels)."""
    found = np.zeros((len(test), len(known)))
    places = {label: place for place, label in enumerate(known)}
    if len(set(labels)) < 2:
        found[:, places[labels[0]]] = 1.0
        return found
    model = fitted_head(train, labels, seed=seed)
    found[:, [places[str(label)] for label in model.classes_]] = model.predict_proba(test)
    return found
