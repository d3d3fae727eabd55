"""Perplexity from loss sums and token counts."""

import math

import pytest

from luthier.core.errors import DataError, ModelError
from luthier.score.intervals import estimate
from luthier.score.perplexity import perplexity


def test_weights_tokens_and_not_rows() -> None:
    scores = perplexity([2.0, 12.0], [1, 6])
    assert scores.value == pytest.approx(math.exp(14 / 7))
    assert scores.per_row.tolist() == pytest.approx([math.exp(2), math.exp(2)])


def test_a_uniform_model_has_the_size_of_its_vocabulary() -> None:
    assert perplexity([5 * math.log(50)], [5]).value == pytest.approx(50)


def test_the_interval_is_over_rows() -> None:
    found = estimate(perplexity([1.0, 4.0, 2.0, 3.0], [2, 2, 2, 2]), resamples=500, seed=1)
    assert found.value == pytest.approx(math.exp(1.25))
    assert math.exp(0.5) <= found.low < found.value < found.high <= math.exp(2)


def test_broken_input_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        perplexity([], [])
    with pytest.raises(DataError, match="no target tokens"):
        perplexity([1.0, 0.0], [3, 0])
    for loss in (math.nan, math.inf, 1e6):
        with pytest.raises(ModelError, match="not finite") as caught:
            perplexity([1.0, loss], [3, 3])
        assert caught.value.where == {"row": "2"}
