"""Scores: one metric over the rows of one system, in the form that intervals and tests resample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.core.errors import DataError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """A metric as statistics per row: summed over any choice of rows they give the metric on these rows."""

    metric: str
    per_row: FloatArray
    """What each row scored, shape (rows,): shown beside examples, and compared to count rows won and lost."""
    statistics: FloatArray
    """Sufficient statistics, shape (rows, k): score and 1 for a mean, n-gram counts for BLEU, …"""
    value_of: Callable[[FloatArray], FloatArray]
    """The metric from summed statistics: shape (…, k) to shape (…)."""

    def __post_init__(self) -> None:
        """Refuse to score nothing."""
        if not len(self.per_row):
            raise DataError("there are no rows to score", where={"metric": self.metric}, hint="hold out more test rows")

    @property
    def rows(self) -> int:
        """The number of rows scored."""
        return len(self.per_row)

    @property
    def value(self) -> float:
        """The metric over all rows."""
        # Sorted, so that the order of the rows does not even change the last bit.
        return float(self.value_of(sorted_rows(self.statistics).sum(axis=0)))


def sorted_rows(statistics: FloatArray) -> FloatArray:
    """Return the rows in an order that depends on their values only."""
    return statistics[np.lexsort(statistics.T[::-1])]


def mean_scores(metric: str, per_row: Sequence[float]) -> Scores:
    """Return the scores of a metric that is the mean of its rows."""
    values = np.asarray(per_row, dtype=np.float64)
    return Scores(metric, values, np.stack([values, np.ones_like(values)], axis=-1), _ratio)


def _ratio(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 0] / sums[..., 1])
