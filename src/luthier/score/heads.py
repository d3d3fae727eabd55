"""What a head says, scored: labels with their probabilities, and numbers."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from luthier.score.closed import mean_f1
from luthier.score.scores import FloatArray, Scores, mean_scores

BINS = 15
"""Of the calibration error, all of one width (Guo et al. 2017)."""
LEAST = 1e-9
"""A probability of 0 would make one row's log loss infinite."""


def log_loss(said: FloatArray, true: FloatArray) -> Scores:
    """Return the log loss in nats: of one label that of its probability, of several the mean over the labels.

    `said` are probabilities, (N, K); `true` holds a 1 for each label that a row has, (N, K).
    """
    p = np.clip(said, LEAST, 1 - LEAST)
    if np.allclose(said.sum(axis=1), 1) and np.all(true.sum(axis=1) == 1):
        return mean_scores("log_loss", (-np.log(p) * true).sum(axis=1))
    return mean_scores("log_loss", (-np.log(p) * true - np.log1p(-p) * (1 - true)).mean(axis=1))


def calibration_error(said: FloatArray, right: FloatArray) -> Scores:
    """Return the expected calibration error, 0 to 1: how far certainty is from being right, in 15 bins of certainty.

    `said` are probabilities that something is so, (N, M), and `right` holds a 1 where it is.
    """
    bins = np.clip(np.ceil(said * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros((len(said), BINS))
    for column in range(said.shape[1]):
        gaps[np.arange(len(said)), bins[:, column]] += said[:, column] - right[:, column]
    counts = np.full((len(said), 1), float(said.shape[1]))
    return Scores("ece", np.abs(said - right).mean(axis=1), np.hstack([gaps, counts]), _ece)


def _ece(sums: FloatArray) -> FloatArray:
    return np.asarray(np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1])


def micro_f1(said: FloatArray, true: FloatArray) -> Scores:
    """Return micro-F1, 0 to 1, over all labels of all rows, (N, K) of 0 and 1; 1 where none is true and none said."""
    statistics = np.stack([2 * (said * true).sum(axis=1), said.sum(axis=1) + true.sum(axis=1)], axis=1)
    return Scores("micro_f1", _share(statistics), statistics, _share)


def macro_f1(said: FloatArray, true: FloatArray) -> Scores:
    """Return macro-F1, 0 to 1: the mean of the labels' F1; labels neither true nor said are left out."""
    hits = said * true
    return Scores("macro_f1", hits.sum(axis=1), np.hstack([hits, true, said]), mean_f1)


def subset_accuracy(said: FloatArray, true: FloatArray) -> Scores:
    """Return the share of rows, 0 to 1, whose labels are all right and none too many."""
    return mean_scores("subset_accuracy", (said == true).all(axis=1).astype(float))


def mae(said: FloatArray, true: FloatArray) -> Scores:
    """Return the mean absolute error."""
    return mean_scores("mae", np.abs(said - true))


def mse(said: FloatArray, true: FloatArray) -> Scores:
    """Return the mean squared error."""
    return mean_scores("mse", np.square(said - true))


def pearson(said: FloatArray, true: FloatArray) -> Scores:
    """Return Pearson's correlation, −1 to 1; 0 where one side does not vary."""
    return _correlation("pearson", said, true)


def spearman(said: FloatArray, true: FloatArray) -> Scores:
    """Return Spearman's rank correlation, −1 to 1; its interval keeps the ranks that all rows give."""
    return _correlation("spearman", rankdata(said), rankdata(true))


def _correlation(metric: str, said: FloatArray, true: FloatArray) -> Scores:
    # About the mean, so that the sums of squares lose no digits.
    a, b = said - said.mean(), true - true.mean()
    statistics = np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], axis=1)
    return Scores(metric, -np.abs(said - true), statistics, _r)


def _r(sums: FloatArray) -> FloatArray:
    n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.clip(n * aa - a * a, 0, None) * np.clip(n * bb - b * b, 0, None))
    return np.divide(n * ab - a * b, spread, out=np.zeros_like(spread), where=spread > 1e-12 * np.maximum(n * n, 1))


def _share(sums: FloatArray) -> FloatArray:
    right, all_of = sums[..., 0], sums[..., 1]
    return np.divide(right, all_of, out=np.ones_like(right), where=all_of > 0)


def one_hot(values: Sequence[Sequence[str]], labels: Sequence[str]) -> FloatArray:
    """Return a 1 for each label that a row has, (N, K)."""
    places = {label: place for place, label in enumerate(labels)}
    matrix = np.zeros((len(values), len(labels)))
    for row, its in enumerate(values):
        matrix[row, [places[label] for label in its]] = 1.0
    return matrix
