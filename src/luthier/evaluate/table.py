"""The results table: one row per system, the same for terminal, Markdown and HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.artifacts import HarnessResult, Report, SystemResult
from luthier.evaluate.conclusion import TUNED
from luthier.score.names import TITLES, title_of
from luthier.score.verdict import estimate_text

NOTHING = "–"
HARNESS_COLUMNS = ("task", "metric", "rows", "untuned", "tuned", "row by row")


@dataclass(frozen=True)
class TableRow:
    """One system's results, written out."""

    system: str
    cells: dict[str, str]
    """Text by column title; all rows have the same columns in the same order."""
    tuned: bool
    """Whether this is a tuned model rather than a baseline."""


def metric_names(report: Report) -> list[str]:
    """Return the metrics that any system has, the primary one first."""
    measured = list(dict.fromkeys(name for system in report.systems for name in system.metrics))
    order = list(TITLES)
    # Those of the user's own come last, as the recipe lists them.
    place = {name: order.index(name) if name in order else len(order) for name in measured}
    return sorted(measured, key=lambda name: (name != report.primary_metric, place[name]))


def table_rows(report: Report) -> list[TableRow]:
    """Return one row per system: metrics with intervals and, where any wrote answers, their cost and how many stop."""
    metrics = metric_names(report)
    wrote = any(system.prompt_tokens for system in report.systems)
    return [
        TableRow(system.name, _cells(system, metrics, wrote=wrote), system.name.startswith(TUNED))
        for system in report.systems
    ]


def harness_rows(found: Sequence[HarnessResult]) -> list[list[str]]:
    """Return one row for each metric of each of lm-eval's tasks: both models' values, and what the paired test says."""
    return [
        [
            one.task,
            one.metric,
            f"{one.rows:,}",
            _with_error(one.untuned, one.untuned_error),
            _with_error(one.tuned, one.tuned_error),
            one.comparison.verdict if one.comparison else NOTHING,
        ]
        for one in found
    ]


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


def _cells(system: SystemResult, metrics: Sequence[str], *, wrote: bool) -> dict[str, str]:
    cells = {title_of(name): _metric_cell(system, name) for name in metrics}
    if not wrote:
        return cells
    return cells | {
        "prompt tokens": f"{system.prompt_tokens:,.0f}",
        "s/answer": f"{system.latency_s:.3g}",
        "stops": f"{system.stops_share:.0%}",
    }


def _metric_cell(system: SystemResult, name: str) -> str:
    return estimate_text(name, system.metrics[name]) if name in system.metrics else NOTHING
