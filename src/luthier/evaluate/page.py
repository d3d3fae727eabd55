"""The report as one HTML page: no script, no request, no font or picture from anywhere else."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from luthier.core.artifacts import Report
from luthier.evaluate.conclusion import TUNED, best_baseline, find
from luthier.evaluate.content import Content
from luthier.evaluate.curves import Curves, Series, thinned
from luthier.evaluate.duels import shortened
from luthier.evaluate.svg import Bar, Line, interval_chart, line_chart
from luthier.evaluate.table import HARNESS_COLUMNS, harness_rows, metric_names, table_rows
from luthier.score.names import title_of
from luthier.score.verdict import estimate_text, outcome

POINTS = 400
"""Points drawn per curve; longer curves are averaged down to these."""


def html_page(content: Content) -> str:
    """Return the whole report as one self-contained page; all text is escaped, since models wrote some of it."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shortened"] = shortened
    environment.globals.update(estimate_text=estimate_text, title_of=title_of)
    return environment.get_template("report.html.jinja").render(
        content=content,
        report=content.report,
        mood=_mood(content.report),
        rows=table_rows(content.report),
        intervals=_interval_charts(content.report),
        curves=_curve_charts(content.curves),
        tuned=TUNED,
        harness=harness_rows(content.report.harness),
        harness_columns=HARNESS_COLUMNS,
    )


def _mood(report: Report) -> str:
    """Return `better`, `worse` or `none`, for the colour of the headline."""
    best = best_baseline(report.systems, report.primary_metric)
    comparison = find(report.comparisons, best.name, report.primary_metric) if best else None
    return outcome(comparison) if comparison else "none"


def _interval_charts(report: Report) -> list[tuple[str, Markup]]:
    charts = []
    for metric in metric_names(report):
        measured = [(system.name, system.metrics[metric]) for system in report.systems if metric in system.metrics]
        bars = [Bar(name, one.value, one.low, one.high, name.startswith(TUNED)) for name, one in measured]
        charts.append((title_of(metric), Markup(interval_chart(title_of(metric), bars))))  # noqa: S704 (escaped in svg.py)
    return charts


def _curve_charts(curves: Curves) -> list[tuple[str, list[str], Markup]]:
    """Return (title, names of the lines, chart) for each measurement that has points."""
    wanted: list[tuple[str, list[tuple[str, Series]]]] = [
        ("Loss in nats", [("training", curves.loss), ("validation", curves.validation_loss)]),
        ("Learning rate", [("learning rate", curves.learning_rate)]),
        ("Gradient norm", [("gradient norm", curves.grad_norm)]),
        ("Tokens per second", [("tokens per second", curves.tokens_per_second)]),
    ]
    charts = []
    for title, series in wanted:
        lines = [Line(name, thinned(points, POINTS)) for name, points in series if points]
        if lines:
            names = [line.name for line in lines] if len(lines) > 1 else []
            charts.append((title, names, Markup(line_chart(title, lines))))  # noqa: S704 (escaped in svg.py)
    return charts
