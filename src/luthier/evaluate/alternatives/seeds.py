"""Seeds: several trainings of one alternative as one, with the mean of their values."""

from collections.abc import Sequence

import numpy as np

from luthier.score.scores import FloatArray, Scores


def mean_of(trainings: Sequence[Scores]) -> Scores:
    """Return scores on the same rows whose value is the mean over the trainings, each by its own statistics."""
    first = trainings[0]
    if len(trainings) == 1:
        return first
    columns = first.statistics.shape[1]

    def value_of(sums: FloatArray) -> FloatArray:
        parts = [one.value_of(sums[..., i * columns : (i + 1) * columns]) for i, one in enumerate(trainings)]
        return np.asarray(np.mean(parts, axis=0))

    # Another name than the metric's: a row's mean is no share of rows, for which exact intervals would be taken.
    return Scores(
        f"mean of {first.metric}",
        np.mean([one.per_row for one in trainings], axis=0),
        np.hstack([one.statistics for one in trainings]),
        value_of,
    )
