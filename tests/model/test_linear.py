"""Linear fits as weights for plain vectors: the same answers as the fitted pipelines, and dead dimensions stay out."""

import numpy as np
import pytest

from luthier.model.linear import fitted_head, label_weights, number_weights

RNG = np.random.default_rng(0)
VECTORS = (3 + RNG.normal(size=(60, 6)) * [1, 2, 0.5, 1, 1, 1]).astype(np.float32)


@pytest.mark.parametrize("known", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("centred", [True, False])
def test_weights_say_what_the_pipeline_says(known: tuple[str, ...], centred: bool) -> None:
    labels = [known[number] for number in (VECTORS[:, 0] * 2).astype(int) % len(known)]
    weights, bias = label_weights(VECTORS, labels, known, seed=1, centred=centred)
    model = fitted_head(VECTORS, labels, seed=1, centred=centred)
    logits = VECTORS @ weights.T + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(shares, model.predict_proba(VECTORS), atol=1e-5)
    assert centred or not bias.any()


def test_a_label_without_a_row_and_a_dead_dimension_weigh_nothing() -> None:
    dead = np.hstack([VECTORS, np.full((60, 1), 1e-3) + RNG.normal(size=(60, 1)) * 1e-12]).astype(np.float32)
    labels = ["a" if x > 3 else "b" for x in VECTORS[:, 0]]
    weights, bias = label_weights(dead, labels, ("a", "b", "c"), seed=1, centred=True)
    assert np.abs(weights).max() < 100 and not weights[:, -1].any() and not weights[2].any() and bias[2] == 0
    numbers, _ = number_weights(dead, VECTORS[:, 1].astype(float), centred=True)
    assert not numbers[:, -1].any()


def test_numbers() -> None:
    weights, bias = number_weights(VECTORS, 5 + 2.0 * VECTORS[:, 1], centred=True)
    assert np.allclose(VECTORS @ weights[0] + bias[0], 5 + 2 * VECTORS[:, 1], atol=0.1)
