"""How well vectors find what belongs together."""

import numpy as np

from luthier.score.scores import FloatArray, Scores, mean_scores

DEPTH = 10
"""Ranks beyond this one count nothing."""


def rank_of(alike: FloatArray, own: int) -> int:
    """Return at which place the own candidate stands, from 1; on a tie it comes last: saying nothing wins nothing.

    `alike` is how alike each candidate is, (C,).
    """
    return int((alike >= alike[own]).sum())


def accuracy_at_1(ranks: FloatArray) -> Scores:
    """Return the share of rows, 0 to 1, whose match comes first."""
    return mean_scores("accuracy_at_1", (ranks == 1).astype(float))


def mrr_at_10(ranks: FloatArray) -> Scores:
    """Return the mean of 1 / rank, 0 to 1; beyond the tenth place it is 0."""
    return mean_scores("mrr_at_10", np.where(ranks <= DEPTH, 1 / ranks, 0.0))


def ndcg_at_10(ranks: FloatArray) -> Scores:
    """Return the mean of 1 / log2(1 + rank), 0 to 1; beyond the tenth place it is 0. A row has one match."""
    return mean_scores("ndcg_at_10", np.where(ranks <= DEPTH, 1 / np.log2(1 + ranks), 0.0))


def triplet_accuracy(alike: FloatArray, apart: FloatArray) -> Scores:
    """Return the share of rows, 0 to 1, whose match is nearer than the text that does not belong to it."""
    return mean_scores("triplet_accuracy", (alike > apart).astype(float))
