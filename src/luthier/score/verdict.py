"""Verdicts: a paired comparison in words, and how numbers are written. Light: the command line reads it."""

from typing import Literal

from luthier.core.artifacts import Comparison, Estimate
from luthier.score.names import TITLES, lower_is_better, title_of

Outcome = Literal["better", "none", "worse"]
SIGNIFICANCE = 0.05


def outcome(comparison: Comparison) -> Outcome:
    """Tell whether a is better than b; both the test (p < 0.05) and the 95 % interval must leave out zero."""
    outside = comparison.low > 0 or comparison.high < 0
    if comparison.p >= SIGNIFICANCE or not outside:
        return "none"
    return "better" if (comparison.difference > 0) != lower_is_better(comparison.metric) else "worse"


def in_words(comparison: Comparison) -> str:
    """Say the outcome of a comparison in one line, with its numbers."""
    words = {
        "better": f"{comparison.a} is better",
        "worse": f"{comparison.a} is worse",
        "none": "no detectable difference",
    }
    rows = f"{comparison.won} rows won, {comparison.lost} lost"
    return f"{words[outcome(comparison)]}: {difference_text(comparison)}; {rows}"


def difference_text(comparison: Comparison) -> str:
    """Write the difference of a comparison with its interval and p."""
    difference, low, high = (
        _signed(comparison.metric, x) for x in (comparison.difference, comparison.low, comparison.high)
    )
    return f"{title_of(comparison.metric)} {difference} [{low} to {high}], {p_text(comparison.p)}"


def estimate_text(metric: str, estimate: Estimate) -> str:
    """Write a value with its interval: `0.812 [0.764–0.853]`."""
    value, low, high = (number_text(metric, x) for x in (estimate.value, estimate.low, estimate.high))
    # The bootstrap of one row has no width, which would read as certainty.
    return f"{value} (one row)" if estimate.n == 1 else f"{value} [{low}–{high}]"


def number_text(metric: str, value: float) -> str:
    """Write a value of a metric: three decimals where it is 0 to 1, else about four digits."""
    if metric in ("chrf", "bleu"):
        return f"{value:.1f}"
    if metric == "perplexity":
        return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    # A metric of the user's own may have any unit.
    return f"{value:.3f}" if metric in TITLES or abs(value) < 10 else f"{value:,.1f}"


def p_text(p: float) -> str:
    """Write a p-value; small ones only as a bound."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _signed(metric: str, value: float) -> str:
    sign = "−" if value < 0 else "+"
    return sign + number_text(metric, abs(value))
