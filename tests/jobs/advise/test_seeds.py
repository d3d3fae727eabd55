"""Several trainings of one alternative: their mean, and a comparison that is the same from both sides."""

import numpy as np
import pytest

from luthier.advise.verdict.decide import Measured, Test
from luthier.evaluate.alternatives.seeds import mean_of
from luthier.score.intervals import bootstrap_sums
from luthier.score.perplexity import perplexity
from luthier.score.scores import Scores, mean_scores

ROWS = 80


def right(share: float, seed: int) -> Scores:
    return mean_scores("accuracy", (np.random.default_rng(seed).random(ROWS) < share).astype(float).tolist())


def test_the_mean_of_trainings_is_that_of_their_values_in_every_resample() -> None:
    trainings = [perplexity(np.linspace(1, top, ROWS).tolist(), [2] * ROWS) for top in (3.0, 5.0)]
    both = mean_of(trainings)
    assert both.value == pytest.approx((trainings[0].value + trainings[1].value) / 2)
    drawn = both.value_of(bootstrap_sums(both.statistics, resamples=50, seed=1))
    assert drawn.shape == (50,) and drawn.std() > 0
    assert mean_of(trainings[:1]) is trainings[0]


def test_the_spread_of_seeds_is_in_the_test_and_may_turn_it() -> None:
    base = Measured("few-shot", "few-shot", right(0.5, 0))
    apart = (right(0.95, 1), right(0.45, 2), right(0.55, 3))
    test = Test(0.02, 2000, 7)
    one, several = (Measured("tuned", "tune", apart[0], again=again) for again in ((), apart[1:]))
    assert test.beats(test.of(one, base)) and not test.beats(test.of(several, base))
    assert several.value == pytest.approx(np.mean([scores.value for scores in apart]))


def test_a_comparison_with_seeds_is_the_same_from_both_sides() -> None:
    tuned = Measured("tuned", "tune", right(0.8, 1), again=(right(0.8, 1),))
    other = Measured("tuned + retrieval", "tune + retrieve", right(0.5, 3))
    test = Test(0.02, 500, 7)
    there, back = test.of(tuned, other), test.of(other, tuned)
    assert (back.a, back.b, back.difference) == (there.b, there.a, -there.difference)
    assert (back.low, back.high, back.won, back.lost) == (-there.high, -there.low, there.lost, there.won)
    assert there.verdict.startswith("tuned is better") and back.verdict.startswith("tuned + retrieval is worse")
