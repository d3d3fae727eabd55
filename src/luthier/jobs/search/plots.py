"""The pictures of a search as SVG files: its history, what mattered, and every trial across all fields."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from luthier.evaluate.svg import WIDTH, Bar, Line, interval_chart, line_chart
from luthier.jobs.search.result import Searched, TrialResult, objective_title, value_text
from luthier.jobs.search.study import lower

NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'
STYLE = """<style>
svg { background: #fff; font: 12px system-ui, sans-serif; }
text { fill: #555; }
.grid { stroke: #ddd; }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.s0 { stroke: #2a6f97; } polyline.s1 { stroke: #c8763a; }
circle.s0 { fill: #2a6f97; } circle.s1 { fill: #c8763a; }
g.s0 { fill: #2a6f97; stroke: #2a6f97; } g.s1 { fill: #c8763a; stroke: #c8763a; }
.interval { stroke-width: 3; stroke-linecap: round; opacity: .55; }
.trial { stroke: #2a6f97; opacity: .35; } .best { stroke: #c8763a; stroke-width: 3; opacity: 1; }
</style>"""
HEIGHT, TOP, BOTTOM, SIDE = 260, 28, 44, 60
LOGARITHMIC = 50
"""A field whose greatest value is so many times its least is drawn by powers."""


def standalone(svg: str) -> str:
    """Return a chart as a file of its own: a name space and colours."""
    head, rest = svg.split(">", 1)
    return f"{head.replace('<svg ', f'<svg {NAMESPACE} ', 1)}>{STYLE}{rest}\n"


def pictures(result: Searched) -> dict[str, str]:
    """Return each picture's file name and content; those for which there are too few trials are left out."""
    done = [trial for trial in result.trials if trial.state == "done"]
    drawn: dict[str, str] = {}
    if done:
        drawn["history.svg"] = standalone(history(result, done))
    if result.importance:
        bars = [Bar(path.rsplit(".", 1)[-1], share, 0.0, share) for path, share in result.importance.items()]
        drawn["importance.svg"] = standalone(interval_chart("Share of the spread that a field explains", bars))
    if len(done) > 1:
        drawn["parallel.svg"] = standalone(parallel(result, done))
    return drawn


def history(result: Searched, done: Sequence[TrialResult]) -> str:
    """Draw what each trial reached, and the best up to it."""
    name = result.objectives[0]
    reached = tuple((trial.number, trial.values[0]) for trial in done)
    better = min if lower(name) else max
    best = tuple((number, better(value for other, value in reached if other <= number)) for number, _ in reached)
    title = f"{objective_title(name)} by trial"
    return line_chart(title, [Line("trial", reached), Line("best so far", best)], along="trial")


def parallel(result: Searched, done: Sequence[TrialResult]) -> str:
    """Draw one line a trial across an axis for each field and objective; the best trial stands out."""
    columns = [
        _Column(path.rsplit(".", 1)[-1], [trial.tried.get(path) for trial in done]) for path in result.dimensions
    ]
    for place, name in enumerate(result.objectives):
        columns.append(_Column(objective_title(name), [trial.values[place] for trial in done]))
    across = [SIDE + (WIDTH - 2 * SIDE) * i / max(1, len(columns) - 1) for i in range(len(columns))]
    parts = []
    for x, column in zip(across, columns, strict=True):
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x, HEIGHT - BOTTOM + 30, column.name))
        parts += [_text(x, y, text) for y, text in ((TOP - 8, column.top), (HEIGHT - BOTTOM + 14, column.bottom))]
    # The best is drawn last, above the others.
    for row in sorted(range(len(done)), key=lambda row: done[row].number == result.best):
        points = " ".join(f"{x:.1f},{column.at(row):.1f}" for x, column in zip(across, columns, strict=True))
        kind = "best" if done[row].number == result.best else "trial"
        parts.append(f'<polyline class="{kind}" points="{points}"/>')
    label = escape(f"Every trial across {', '.join(column.name for column in columns)}; the best stands out.")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


class _Column:
    """One axis: numbers by size, by powers where they span many; words in the order of their names."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) == len(values):
            by_powers = min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC
            self.places = [math.log(number) for number in numbers] if by_powers else numbers
            self.bottom, self.top = number(min(numbers)), number(max(numbers))
        else:
            words = sorted({str(value) for value in values})
            self.places = [float(words.index(str(value))) for value in values]
            self.bottom, self.top = words[0], words[-1] if len(words) > 1 else ""

    def at(self, row: int) -> float:
        """Return the height of a trial on this axis."""
        low, high = min(self.places), max(self.places)
        share = (self.places[row] - low) / (high - low) if high > low else 0.5
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def number(value: float) -> str:
    """Write a number at the end of an axis."""
    return value_text(value) if abs(value) < 10_000 else f"{value:.2e}"


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'
