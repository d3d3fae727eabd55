"""Content: everything the readable reports show, gathered once for Markdown and HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luthier.core.artifacts import Comparison, Report, Slice
from luthier.evaluate.conclusion import TUNED, best_baseline
from luthier.evaluate.confusion import ConfusionTable, confusion_table
from luthier.evaluate.curves import Curves
from luthier.evaluate.duels import Duels, duels
from luthier.evaluate.sample import Sample
from luthier.evaluate.slices import shown_slices, weakest_text
from luthier.score.names import title_of
from luthier.score.verdict import estimate_text


@dataclass(frozen=True)
class Content:
    """What a report says, before it is laid out."""

    report: Report
    curves: Curves
    method: str
    """How the numbers were measured, in words."""
    comparisons: list[Comparison]
    """Those in the primary metric first."""
    confusions: list[ConfusionTable]
    duels: Duels | None
    """Rows won and lost against the best baseline; None without a baseline or samples."""
    slices: list[Slice]
    """Parts of the test rows; of each kind the weakest ones."""
    weakest: str
    """Names the weakest slice, where one is surely below the whole."""
    calibration: str
    """How sure a head is and should be; empty where nothing has a probability."""
    facts: Mapping[str, str]
    """What was run: model, data, seed, versions."""


def gather(report: Report, samples: Sequence[Sample], curves: Curves, facts: Mapping[str, str]) -> Content:
    """Select what the reports show."""
    best = best_baseline(report.systems, report.primary_metric)
    method = (
        f"Measured on {report.test_rows:,} held-out rows; {title_of(report.primary_metric)} decides. In brackets: "
        "95 % intervals (Wilson's for shares, else bootstrap over rows). Differences are tested row by row."
    )
    return Content(
        report=report,
        curves=curves,
        method=method,
        comparisons=sorted(report.comparisons, key=lambda one: one.metric != report.primary_metric),
        confusions=[table for system in report.systems if (table := confusion_table(system))],
        duels=duels(samples, best.name, report.primary_metric) if best and samples else None,
        slices=shown_slices(report.slices),
        weakest=_weakest(report),
        calibration=_calibration(report),
        facts=facts,
    )


def _calibration(report: Report) -> str:
    found = report.calibration
    if found is None:
        return ""
    error = f"calibration error {estimate_text('ece', found.ece_before)} as trained"
    if not found.rows:
        return f"The probabilities are those of the head as trained: no temperature was fitted; {error}."
    after = f"{estimate_text('ece', found.ece_after)} at a temperature of {found.temperature:.3g}"
    return f"{error[0].upper()}{error[1:]}, {after}, which was fitted on {found.rows:,} validation rows."


def _weakest(report: Report) -> str:
    tuned = next((system for system in report.systems if system.name == TUNED), None)
    if tuned is None or report.primary_metric not in tuned.metrics:
        return ""
    return weakest_text(report.slices, tuned.metrics[report.primary_metric].value)
