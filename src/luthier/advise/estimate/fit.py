"""Lines through measured times: a fixed part and a part that grows."""

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

NARROW = 0.1
"""Amounts that differ by less than this share tell nothing of the fixed part."""


class Line(NamedTuple):
    """Seconds = fixed + slope times the amount."""

    fixed: float
    slope: float

    def __call__(self, amount: float) -> float:
        """Return the seconds of an amount."""
        return self.fixed + self.slope * amount


def fit(amounts: Sequence[float], seconds: Sequence[float]) -> Line:
    """Return the line through the middle of the points, of which neither part is negative.

    The slope is the median over all pairs of points (Theil 1950, Sen 1968): one busy moment does not bend it.
    """
    points = list(zip(amounts, seconds, strict=True))
    pairs = [(a, b) for a, b in combinations(points, 2) if abs(a[0] - b[0]) > NARROW * max(a[0], b[0])]
    if not pairs:
        return _through_zero(points)
    slope = max(0.0, median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs))
    fixed = median(y - slope * x for x, y in points)
    return Line(fixed, slope) if fixed >= 0 else _through_zero(points)


def _through_zero(points: Sequence[tuple[float, float]]) -> Line:
    known = [(x, y) for x, y in points if x > 0]
    return Line(0.0, median(y / x for x, y in known)) if known else Line(median(y for _, y in points), 0.0)
