"""Intervals: how far a value could be off, had other test rows been drawn."""

import math

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


def newcombe(won: int, lost: int, both: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of the same rows (Newcombe 1998, paired method 10).

    `won` and `lost` count the rows that only the first or only the second side got right. Unlike a bootstrap it keeps
    its width where few rows, or none, differ.
    """
    rows = won + lost + both + neither
    a, b = both + won, both + lost
    (low_a, high_a), (low_b, high_b) = wilson(a, rows), wilson(b, rows)
    below_a, above_a, below_b, above_b = a / rows - low_a, high_a - a / rows, b / rows - low_b, high_b - b / rows

    # How alike the two sides are, row by row; half a row is taken off as a correction for continuity.
    alike = both * neither - won * lost
    alike = max(alike - rows / 2, 0) if alike > 0 else alike
    margins = math.sqrt(a * (rows - a) * b * (rows - b))
    phi = alike / margins if margins else 0.0
    difference = (won - lost) / rows
    down = math.sqrt(max(0.0, below_a**2 - 2 * phi * below_a * above_b + above_b**2))
    up = math.sqrt(max(0.0, below_b**2 - 2 * phi * below_b * above_a + above_a**2))
    return difference - down, difference + up


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
