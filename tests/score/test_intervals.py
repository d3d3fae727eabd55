"""Intervals: golden Wilson values, order of rows, coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.score.closed import macro_f1
from luthier.score.intervals import BLOCK_CELLS, bootstrap_sums, estimate, newcombe, wilson
from luthier.score.scores import mean_scores
from luthier.score.text import bleu, chrf


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # The closed formula, z = 1.959964: (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n).
        (0, 10, 0.0, 0.277533),
        (1, 1, 0.206549, 1.0),
        (15, 20, 0.531299, 0.888138),
        (81, 100, 0.722212, 0.874852),
        (250, 500, 0.456341, 0.543659),
    ],
)
def test_wilson(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # As in Fagerland, Lydersen and Laake 2013, and as in Newcombe 1998.
        ((1, 7, 1, 12), -0.507, -0.026),
        ((12, 2, 36, 0), 0.057, 0.340),
        # By hand: nothing is alike, so the distances of Wilson's limits are added in squares.
        ((3, 0, 0, 0), 0.2059, 1.0),
        ((0, 1, 0, 0), -1.0, 0.1221),
    ],
)
def test_newcombe(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    assert newcombe(*counts) == pytest.approx((low, high), abs=5e-4)


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.integers(0, 30)] * 4).filter(any))
def test_newcombe_holds_the_difference_and_mirrors(counts: tuple[int, int, int, int]) -> None:
    won, lost, both, neither = counts
    low, high = newcombe(won, lost, both, neither)
    assert -1 - 1e-9 <= low < (won - lost) / sum(counts) + 1e-9
    assert newcombe(lost, won, both, neither) == pytest.approx((-high, -low))


def test_shares_take_wilson_and_means_the_bootstrap() -> None:
    ones = [1.0] * 10
    share, mean = (estimate(mean_scores(name, ones), resamples=200, seed=1) for name in ("accuracy", "token_f1"))
    assert (share.value, share.high, share.n) == (1, 1, 10)
    assert share.low == pytest.approx(0.72247, abs=1e-4)
    assert (mean.low, mean.value, mean.high) == (1, 1, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(values: list[float], random: object) -> None:
    before = estimate(mean_scores("token_f1", values), resamples=200, seed=3)
    random.shuffle(values)  # type: ignore[attr-defined]
    assert estimate(mean_scores("token_f1", values), resamples=200, seed=3) == before
    assert before.low <= before.value <= before.high


def test_the_order_of_rows_changes_no_corpus_metric() -> None:
    answers, references = ["a b c d e", "x", "the cat", "b a"], ["a b c d f", "x y", "the dog", "a b"]
    for scorer in (bleu, chrf, lambda a, r: macro_f1(a, r, ["x y", "a b"])):
        there = estimate(scorer(answers, references), resamples=300, seed=3)
        assert there == estimate(scorer(answers[::-1], references[::-1]), resamples=300, seed=3)
        assert there.low <= there.value <= there.high


def test_same_seed_same_interval_other_seed_other_draws() -> None:
    scores = mean_scores("rouge_l", np.linspace(0, 1, 40) ** 2)
    first, again, other = (estimate(scores, resamples=400, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_blocks_draw_each_resample_in_full() -> None:
    rows = BLOCK_CELLS // 3
    sums = bootstrap_sums(np.ones((rows, 1)), resamples=4, seed=0)
    assert sums.tolist() == [[rows]] * 4


def test_the_bootstrap_matches_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).beta(2, 5, size=80)
    ours = estimate(mean_scores("token_f1", values), resamples=4000, seed=1)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    for name, draw in (
        ("token_f1", lambda: generator.beta(2, 3, 60)),
        ("accuracy", lambda: generator.random(60) < 0.4),
    ):
        found = [estimate(mean_scores(name, draw()), resamples=300, seed=i) for i in range(200)]
        assert 0.90 <= np.mean([e.low <= 0.4 <= e.high for e in found]) <= 0.99
