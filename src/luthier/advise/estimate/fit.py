"""Lines through measured times: a fixed part and a part that grows."""

from collections.abc import Sequence
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
    """Return the line of least squares whose two parts are not negative; one point gives a line through zero."""
    mean_x, mean_y = sum(amounts) / len(amounts), sum(seconds) / len(seconds)
    spread = sum((x - mean_x) ** 2 for x in amounts)
    if spread <= (NARROW * mean_x) ** 2 * len(amounts):
        return _through_zero(mean_x, mean_y)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(amounts, seconds, strict=True)) / spread
    fixed = mean_y - slope * mean_x
    if slope < 0:
        return Line(mean_y, 0.0)
    if fixed < 0:
        total = sum(x * y for x, y in zip(amounts, seconds, strict=True))
        return Line(0.0, total / sum(x * x for x in amounts))
    return Line(fixed, slope)


def _through_zero(amount: float, seconds: float) -> Line:
    return Line(0.0, seconds / amount) if amount else Line(seconds, 0.0)
