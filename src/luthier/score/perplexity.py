"""Perplexity: how surprised a model is by the right answers."""

from collections.abc import Sequence

import numpy as np

from luthier.core.errors import DataError, ModelError
from luthier.score.scores import FloatArray, Scores


def perplexity(losses: Sequence[float], tokens: Sequence[int]) -> Scores:
    """Return perplexity exp(Σ loss / Σ tokens) (Jelinek et al. 1977), 1 and up, lower is better.

    `losses` are summed over each row's target tokens, in nats; `tokens` counts these tokens. Rows without target tokens
    and losses that are not finite are errors.
    """
    statistics = np.array(list(zip(losses, tokens, strict=True)), dtype=np.float64).reshape(len(losses), 2)
    _check(statistics)
    return Scores("perplexity", _value(statistics), statistics, _value)


def _check(statistics: FloatArray) -> None:
    empty = np.flatnonzero(statistics[:, 1] < 1)
    if len(empty):
        raise DataError("a test row has no target tokens", where={"row": int(empty[0]) + 1, "metric": "perplexity"})
    # Beyond about 700 nats a token the exponential is no number either.
    broken = np.flatnonzero(~(statistics[:, 0] / statistics[:, 1] < 700))
    if len(broken):
        hint = "evaluate in fp32; if it stays, the model's weights are broken"
        raise ModelError("the loss on a test row is not finite", where={"row": int(broken[0]) + 1}, hint=hint)


def _value(sums: FloatArray) -> FloatArray:
    return np.asarray(np.exp(sums[..., 0] / sums[..., 1]))
