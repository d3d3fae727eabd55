"""Preference accuracy counts the pairs whose better answer is the likelier one."""

import pytest

from luthier.score.intervals import estimate, wilson
from luthier.score.preference import preference_accuracy


def test_the_lower_loss_wins_and_a_tie_is_a_miss() -> None:
    scores = preference_accuracy([1.0, 5.0, 2.0, 3.0], [2.0, 4.0, 2.0, 9.0])
    assert scores.per_row.tolist() == [1.0, 0.0, 0.0, 1.0]
    found = estimate(scores, resamples=200, seed=0)
    assert (found.value, found.n) == (0.5, 4) and (found.low, found.high) == pytest.approx(wilson(2, 4))
