"""The learning curve: what more rows would bring, with its uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.score.intervals import bootstrap_sums, percentile_interval
from luthier.score.scores import Scores

FLATTENS = (0.5, 1.0)
"""By which factor the gain of a doubling shrinks at the next one. Learning curves are power laws (Hestness et al. 2017,
arXiv:1712.00409) with exponents of 0.07 to 1 in error, so that the factor 2^-c lies between one half and about one."""

APART = 1.5
"""By how much two tunings must differ in rows for a slope: the noise of a smaller step would be blown up."""
MOST_TIMES = 4.0
"""How far a curve is drawn on; what lies beyond is not known from two points."""


@dataclass(frozen=True)
class Point:
    """A tuning on so many rows, and how it scored on the same held-out rows as the others."""

    rows: int
    scores: Scores


@dataclass(frozen=True)
class Gain:
    """What `times` as many rows would bring, in the metric's unit, and its 95 % interval."""

    times: float
    value: float
    low: float
    high: float
    points: int


def extrapolate(points: Sequence[Point], *, times: float = 2.0, resamples: int, seed: int) -> Gain | None:
    """Return what more rows would bring, `MOST_TIMES` as many at most; None without two tunings of different size.

    The gain per doubling is read off the largest tuning and the next one that is clearly smaller, in every bootstrap
    resample of the held-out rows anew, and shrinks by a factor drawn from `FLATTENS`. How much another seed would
    change is not in the interval.
    """
    ordered = sorted(points, key=lambda point: point.rows)
    smaller = [point for point in ordered if point.rows * APART <= ordered[-1].rows]
    if not smaller:
        return None
    times = min(times, MOST_TIMES)
    before, last = smaller[-1].scores, ordered[-1].scores
    columns = before.statistics.shape[1]
    sums = bootstrap_sums(np.hstack([before.statistics, last.statistics]), resamples=resamples, seed=seed)
    factor = np.random.default_rng(seed).uniform(*FLATTENS, size=resamples)
    scale = math.log2(times) / math.log2(ordered[-1].rows / smaller[-1].rows)
    gains = (last.value_of(sums[:, columns:]) - before.value_of(sums[:, :columns])) * scale * factor
    measured = (last.value - before.value) * scale * sum(FLATTENS) / 2
    low, high = percentile_interval(gains)
    return Gain(times, measured, min(low, measured), max(high, measured), len(ordered))
