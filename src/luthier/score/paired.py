"""Paired comparison: two systems on the same rows, with the interval of their difference and a test."""

from collections.abc import Sequence
from dataclasses import replace

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


def compare_over_seeds(
    trainings: Sequence[Scores], b: Scores, *, names: tuple[str, str], resamples: int, seed: int
) -> Comparison:
    """Compare the mean of several trainings of one system with another system on the same rows.

    Rows and trainings are both drawn anew in each bootstrap resample (as a two-way layout; Owen 2007, arXiv:0712.1111).
    So few trainings understate their spread: their part is widened by k / (k - 1) and as Student's t asks. p is the
    bootstrap's. One training is compared by `compare`.
    """
    if len(trainings) == 1:
        return compare(trainings[0], b, names=names, resamples=resamples, seed=seed)
    count, columns = len(trainings), b.statistics.shape[1]
    joint = np.hstack([*(one.statistics for one in trainings), b.statistics])
    sums = bootstrap_sums(joint, resamples=resamples, seed=seed)
    values = np.stack([one.value_of(sums[:, i * columns : (i + 1) * columns]) for i, one in enumerate(trainings)])
    drawn = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    mean = values.mean(axis=0)
    moved = np.take_along_axis(values.T, drawn, axis=1).mean(axis=1) - mean
    wider = np.sqrt(count / (count - 1)) * stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975)
    differences = mean + wider * moved - b.value_of(sums[:, -columns:])
    difference = float(np.mean([one.value for one in trainings]) - b.value)
    low, high = percentile_interval(differences)
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    won, lost = won_lost(replace(b, per_row=np.mean([one.per_row for one in trainings], axis=0)), b)
    draft = Comparison(
        a=names[0],
        b=names[1],
        metric=b.metric,
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
        p=min(1.0, 2 * (1 + min(below, above)) / (1 + resamples)),
        verdict="",
        won=won,
        lost=lost,
        seeds=count,
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
