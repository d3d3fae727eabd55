"""Intervals: how far a value could be off, had other test rows been drawn."""

import numpy as np
from scipy import stats

from luthier.core.artifacts import Estimate
from luthier.score.names import is_proportion
from luthier.score.scores import FloatArray, Scores, sorted_rows

CONFIDENCE = 0.95
BLOCK_CELLS = 1 << 22
"""Draws held in memory at once (32 MB)."""


def estimate(scores: Scores, *, resamples: int, seed: int) -> Estimate:
    """Return the metric with its 95 % interval: Wilson's for shares of rows, else a percentile bootstrap over rows.

    A bootstrap of one row has no width; readers are shown "one row" instead (`n` is 1).
    """
    value = scores.value
    if is_proportion(scores.metric):
        low, high = wilson(int(scores.per_row.sum()), scores.rows)
    else:
        sums = bootstrap_sums(scores.statistics, resamples=resamples, seed=seed)
        low, high = percentile_interval(scores.value_of(sums))
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=scores.rows)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927), both ends within 0 and 1."""
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def percentile_interval(values: FloatArray) -> tuple[float, float]:
    """Return the middle 95 % of resampled values (Efron 1979)."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_sums(statistics: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Return the summed statistics of rows drawn with replacement, shape (resamples, k)."""
    rows = len(statistics)
    generator = np.random.default_rng(seed)
    ordered = sorted_rows(statistics)
    sums = []
    for size in _blocks(resamples, rows):
        # A row drawn twice counts twice: counts times statistics is the sum over the drawn rows.
        drawn = generator.integers(0, rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        sums.append(counts.astype(np.float64) @ ordered)
    return np.concatenate(sums)


def swap_sums(difference: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Return sums of `difference` over rows taken by coin toss, shape (resamples, k)."""
    rows = len(difference)
    generator = np.random.default_rng(seed)
    sums = []
    for size in _blocks(resamples, rows):
        taken = generator.integers(0, 2, size=(size, rows))
        sums.append(taken.astype(np.float64) @ difference)
    return np.concatenate(sums)


def _blocks(resamples: int, rows: int) -> list[int]:
    block = max(1, BLOCK_CELLS // rows)
    whole, rest = divmod(resamples, block)
    return [block] * whole + [rest] * (rest > 0)
