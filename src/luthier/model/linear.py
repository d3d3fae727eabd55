"""Linear heads on vectors: logistic and ridge regression, their strength chosen by cross-validation."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Weights = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(K, D) and (K,)."""
STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation strengths tried by cross-validation; of equally good ones the first, which is the mildest."""
RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)
LEAST_SPREAD = 1e-4
"""Of the usual spread; below it a dimension counts as constant."""
FOLDS = 5
ROUNDS = 500


def fitted_head(train: Vectors, labels: Sequence[str], *, seed: int, centred: bool = True) -> Any:
    """Return logistic regression on standardised vectors, fitted; there are at least two labels.

    Without `centred`, the head has no bias and goes through the origin.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rarest = min(Counter(labels).values())
    head = LogisticRegression(max_iter=ROUNDS, fit_intercept=centred)
    model: Any = make_pipeline(StandardScaler(with_mean=centred), head)
    with warnings.catch_warnings():
        # Regularised well before it converges: cross-validation judges what was reached.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if rarest >= 2:
            folds = StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed)
            model = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=folds)
        model.fit(train, np.asarray(labels))
    return model


def label_weights(train: Vectors, labels: Sequence[str], known: Sequence[str], *, seed: int, centred: bool) -> Weights:
    """Return weights and bias that give such a head's logits on plain vectors; 0 for labels that no row has."""
    weights, bias = np.zeros((len(known), train.shape[1])), np.zeros(len(known))
    if len(set(labels)) < 2:
        return weights, bias
    alive = _alive(train)
    model = fitted_head(train[:, alive], labels, seed=seed, centred=centred)
    model = getattr(model, "best_estimator_", model)
    rows, offset = _plain(model[0], model[1].coef_, np.atleast_1d(model[1].intercept_))
    if len(rows) == 1:
        # Of two labels there is one row: it says by how much the second is likelier than the first.
        rows, offset = np.concatenate([-rows, rows]) / 2, np.concatenate([-offset, offset]) / 2
    places = [list(known).index(str(label)) for label in model[1].classes_]
    weights[np.ix_(places, np.flatnonzero(alive))], bias[places] = rows, offset
    return weights, bias


def number_weights(train: Vectors, numbers: NDArray[np.float64], *, centred: bool) -> Weights:
    """Return weights and bias of ridge regression on standardised vectors, for plain ones."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    alive, scaler = _alive(train), StandardScaler(with_mean=centred)
    model = RidgeCV(RIDGES, fit_intercept=centred).fit(scaler.fit_transform(train[:, alive]), numbers)
    rows, bias = _plain(scaler, np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_))
    weights = np.zeros((1, train.shape[1]))
    weights[:, alive] = rows
    return weights, bias


def _alive(vectors: Vectors) -> NDArray[np.bool_]:
    """Return which dimensions vary: some are all but constant, and their noise must not be scaled up."""
    spread = vectors.std(axis=0)
    return np.asarray(spread > LEAST_SPREAD * np.median(spread))


def _plain(scaler: Any, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> Weights:
    """Return weights and bias for vectors that are not standardised."""
    plain = weights / scaler.scale_
    return plain, bias - plain @ scaler.mean_ if scaler.with_mean else bias
