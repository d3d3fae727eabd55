"""Frozen: labels from a model's vectors without tuning it, by nearest neighbours or a linear head."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate.nearest import Space, Vectors

NEIGHBOURS = 8
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation strengths tried by cross-validation."""
FOLDS = 5
ROUNDS = 500


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


def fitted_head(train: Vectors, labels: Sequence[str], *, seed: int) -> Any:
    """Return the fitted head; there are at least two labels."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rarest = min(Counter(labels).values())
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ROUNDS))
    with warnings.catch_warnings():
        # Regularised well before it converges: cross-validation judges what was reached.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if rarest >= 2:
            folds = StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed)
            model = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=folds)
        model.fit(train, np.asarray(labels))
    return model
