"""Scores of what vectors find: against scikit-learn, and against counts made here by other means."""

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from luthier.score import retrieval

RNG = np.random.default_rng(0)
ALIKE = RNG.normal(size=(40, 25))
OWN = RNG.integers(0, 25, 40)
TRUE = np.eye(25)[OWN]
RANKS = np.array([retrieval.rank_of(row, own) for row, own in zip(ALIKE, OWN, strict=True)], dtype=float)


def test_ranks_count_from_1_and_ties_come_last() -> None:
    assert RANKS.tolist() == [
        1 + sorted(row, reverse=True).index(row[own]) for row, own in zip(ALIKE, OWN, strict=True)
    ]
    assert retrieval.rank_of(np.zeros(5), 2) == 5


def test_ndcg_is_scikit_learns() -> None:
    assert retrieval.ndcg_at_10(RANKS).value == pytest.approx(ndcg_score(TRUE, ALIKE, k=10))


def test_mean_reciprocal_rank_is_scikit_learns_where_all_ranks_count() -> None:
    near = RANKS <= 10
    expected = label_ranking_average_precision_score(TRUE[near], ALIKE[near]) * near.mean()
    assert 0 < near.mean() < 1 and retrieval.mrr_at_10(RANKS).value == pytest.approx(expected)


def test_shares_of_rows() -> None:
    assert retrieval.accuracy_at_1(RANKS).value == pytest.approx((ALIKE.argmax(1) == OWN).mean())
    assert retrieval.triplet_accuracy(np.array([1.0, 0.5, 0.2]), np.array([0.9, 0.5, 0.3])).value == pytest.approx(
        1 / 3
    )
