"""Agreement and win rates, against scikit-learn and scipy."""

import random

import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from luthier.score.agreement import Tally, cohen_kappa, majority


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    draw = random.Random(seed)
    first = draw.choices(["first", "second", "tie"], k=50)
    second = [word if draw.random() < 0.6 else draw.choice(["first", "second", "tie"]) for word in first]
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_where_it_is_not_defined() -> None:
    assert cohen_kappa([], []) is None and cohen_kappa(["tie"] * 3, ["tie"] * 3) is None
    assert cohen_kappa(["first", "tie"], ["first", "tie"]) == 1


def test_ties_count_for_neither() -> None:
    tally = Tally(won=15, lost=5, tied=80)
    assert (tally.win_rate.value, tally.win_rate.n) == (0.75, 20)
    assert tally.p == pytest.approx(stats.binomtest(15, 20).pvalue)
    assert (Tally(0, 0, 9).win_rate, Tally(0, 0, 9).p) == (None, 1.0)


def test_a_majority_is_more_than_half() -> None:
    assert majority(["first", "second", "first"], otherwise="tie") == "first"
    assert majority(["first", "second"], otherwise="tie") == "tie"
