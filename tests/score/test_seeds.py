"""Several trainings of one system: their spread is in every comparison."""

import numpy as np
import pytest

from luthier.score.paired import compare, compare_over_seeds
from luthier.score.scores import Scores, mean_scores

WORDS = {"names": ("tuned", "base"), "resamples": 1000, "seed": 3}
ROWS = 300


def right(share: float, seed: int) -> Scores:
    drawn = np.random.default_rng(seed).random(ROWS)
    return mean_scores("accuracy", (drawn < share).astype(float).tolist())


def test_one_training_is_compared_as_before() -> None:
    a, b = right(0.7, 1), right(0.6, 2)
    assert compare_over_seeds([a], b, **WORDS) == compare(a, b, **WORDS)


def test_the_difference_is_that_of_the_mean() -> None:
    trainings, base = [right(share, 5) for share in (0.6, 0.7, 0.8)], right(0.5, 6)
    found = compare_over_seeds(trainings, base, **WORDS)
    assert found.difference == pytest.approx(np.mean([one.value for one in trainings]) - base.value)
    assert found.seeds == 3 and found.low < found.difference < found.high


def test_trainings_that_differ_widen_the_interval() -> None:
    base = right(0.5, 6)
    alike = compare_over_seeds([right(0.7, 5)] * 3, base, **WORDS)
    spread = compare_over_seeds([right(share, 5) for share in (0.55, 0.7, 0.85)], base, **WORDS)
    assert spread.high - spread.low > 1.5 * (alike.high - alike.low) and spread.p > alike.p


def test_intervals_hold_the_true_difference() -> None:
    inside, draws = 0, 150
    generator = np.random.default_rng(8)
    for number in range(draws):
        shares = generator.normal(0.7, 0.03, 3)
        hard = generator.random(ROWS)
        trainings = [mean_scores("accuracy", (hard < share).astype(float).tolist()) for share in shares]
        base = mean_scores("accuracy", (hard < 0.6).astype(float).tolist())
        found = compare_over_seeds(trainings, base, **(WORDS | {"seed": number}))
        inside += found.low <= 0.1 <= found.high
    assert inside >= 0.9 * draws
