"""Paired comparison: two systems on the same rows, with the interval of their difference and a test."""

import numpy as np
from scipy import stats

from luthier.core.artifacts import Comparison
from luthier.score.intervals import bootstrap_sums, newcombe, percentile_interval, swap_sums
from luthier.score.names import is_proportion, lower_is_better
from luthier.score.scores import FloatArray, Scores, sorted_rows
from luthier.score.verdict import in_words


def compare(a: Scores, b: Scores, *, names: tuple[str, str], resamples: int, seed: int) -> Comparison:
    """Compare system a with system b on the same rows, in the metric's own unit; `difference` is a − b.

    Where rows score 0 or 1: Newcombe's 95 % interval, and p of McNemar's exact test. Else a paired percentile bootstrap
    over rows, and p of approximate randomisation (Noreen 1989), which also holds for BLEU, chrF, macro-F1 and
    perplexity. Both tests are two-sided.
    """
    if a.metric != b.metric or a.rows != b.rows:
        raise ValueError(f"not a pair: {a.metric} of {a.rows} rows, {b.metric} of {b.rows} rows")
    difference = a.value - b.value
    low, high = _difference_interval(a, b, resamples=resamples, seed=seed)
    won, lost = won_lost(a, b)
    draft = Comparison(
        a=names[0],
        b=names[1],
        metric=a.metric,
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
        p=mcnemar(won, lost) if is_proportion(a.metric) else randomisation(a, b, resamples=resamples, seed=seed),
        verdict="",
        won=won,
        lost=lost,
    )
    return draft.model_copy(update={"verdict": in_words(draft)})


def won_lost(a: Scores, b: Scores) -> tuple[int, int]:
    """Count the rows on which a scores better than b, and worse; ties count for neither."""
    better, worse = int((a.per_row > b.per_row).sum()), int((a.per_row < b.per_row).sum())
    return (worse, better) if lower_is_better(a.metric) else (better, worse)


def mcnemar(won: int, lost: int) -> float:
    """Return the two-sided p of McNemar's exact test (1947) on the rows that only one side got right; 1 without any."""
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def randomisation(a: Scores, b: Scores, *, resamples: int, seed: int) -> float:
    """Return the two-sided p of swapping the systems row by row at random; never below 1 / (resamples + 1)."""
    columns = a.statistics.shape[1]
    joint = sorted_rows(np.hstack([a.statistics, b.statistics]))
    of_a, of_b = joint[:, :columns], joint[:, columns:]
    moved = swap_sums(of_b - of_a, resamples=resamples, seed=seed)
    swapped = a.value_of(of_a.sum(axis=0) + moved) - b.value_of(of_b.sum(axis=0) - moved)

    # Swaps that give the same difference count as such, whatever the rounding.
    observed = abs(a.value - b.value)
    as_large = np.abs(swapped) >= observed - 1e-10 * max(1.0, observed)
    return float((1 + as_large.sum()) / (1 + resamples))


def _difference_interval(a: Scores, b: Scores, *, resamples: int, seed: int) -> tuple[float, float]:
    if is_proportion(a.metric):
        both = int(((a.per_row == 1) & (b.per_row == 1)).sum())
        won, lost = won_lost(a, b)
        return newcombe(won, lost, both, a.rows - won - lost - both)
    columns = a.statistics.shape[1]
    sums: FloatArray = bootstrap_sums(np.hstack([a.statistics, b.statistics]), resamples=resamples, seed=seed)
    return percentile_interval(a.value_of(sums[:, :columns]) - b.value_of(sums[:, columns:]))
