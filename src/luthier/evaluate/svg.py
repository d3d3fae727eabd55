"""Two small charts as inline SVG; colours come from the page's style, so they follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from luthier.evaluate.curves import Series

WIDTH = 520
LINE_HEIGHT = 220
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 34
BAR_LEFT, BAR_ROW = 165, 26


@dataclass(frozen=True)
class Line:
    """A named series of a line chart."""

    name: str
    points: Series


@dataclass(frozen=True)
class Bar:
    """A value with its interval in an interval chart."""

    name: str
    value: float
    low: float
    high: float
    highlighted: bool = False


def line_chart(title: str, lines: Sequence[Line], *, along: str = "step") -> str:
    """Draw series over steps, or over what `along` names; returns one `<svg>` element."""
    steps = [step for line in lines for step, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    across = _Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    up = _Axis(min(0.0, *values), _round_above(max(values)), LINE_HEIGHT - BOTTOM, TOP)
    parts = [_horizontal(up, tick) for tick in up.ticks()] + [
        _step_tick(across, tick) for tick in across.ticks(whole=True)
    ]
    for number, line in enumerate(lines):
        places = " ".join(f"{across.at(step):.1f},{up.at(value):.1f}" for step, value in line.points)
        if len(line.points) == 1:
            x, y = places.split(",")
            parts.append(f'<circle class="s{number}" cx="{x}" cy="{y}" r="3"/>')
        parts.append(f'<polyline class="s{number}" points="{places}"/>')
    parts.append(_text(WIDTH - RIGHT, LINE_HEIGHT - 4, along, "end"))
    return _svg(title, f"{_said(lines)}.", LINE_HEIGHT, parts)


def interval_chart(title: str, bars: Sequence[Bar]) -> str:
    """Draw one row per system: a dot at the value and a bar over its interval; returns one `<svg>` element."""
    height = TOP + BAR_ROW * len(bars) + BOTTOM
    lowest, highest = min(0.0, *(bar.low for bar in bars)), max(0.0, *(bar.high for bar in bars))
    axis = _Axis(-_round_above(-lowest) if lowest < 0 else 0.0, _round_above(highest), BAR_LEFT, WIDTH - RIGHT)
    parts = [_vertical(axis, tick, height) for tick in axis.ticks()]
    for number, bar in enumerate(bars):
        y = TOP + BAR_ROW * (number + 0.5)
        low, value, high = (axis.at(x) for x in (bar.low, bar.value, bar.high))
        parts.append(f'<g class="{"s1" if bar.highlighted else "s0"}">')
        parts.append(f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{value:.1f}" cy="{y}" r="4.5"/></g>')
        parts.append(_text(BAR_LEFT - 10, y + 4, bar.name, "end"))
    said = "; ".join(f"{bar.name} {bar.value:.3g}, 95 % interval {bar.low:.3g} to {bar.high:.3g}" for bar in bars)
    return _svg(title, said, height, parts)


@dataclass(frozen=True)
class _Axis:
    """A linear map from data to pixels."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.begin + (self.end - self.begin) * (value - self.low) / span

    def ticks(self, *, whole: bool = False) -> list[float]:
        """Return about five round numbers within the axis."""
        step = _step(self.high - self.low)
        step = max(1.0, step) if whole else step
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _step(span: float) -> float:
    """Return a round distance (1, 2 or 5 times a power of ten) that divides a span into about five."""
    span = span if span > 1e-300 else 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)


def _round_above(value: float) -> float:
    step = _step(value)
    return step * math.ceil(value / step - 1e-9) or 1.0


def _said(lines: Sequence[Line]) -> str:
    return "; ".join(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)


def _svg(title: str, description: str, height: float, parts: Sequence[str]) -> str:
    label = escape(f"{title}. {description}")
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _horizontal(axis: _Axis, tick: float) -> str:
    y = axis.at(tick)
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(LEFT - 8, y + 4, f"{tick:.4g}", "end")


def _step_tick(axis: _Axis, tick: float) -> str:
    return _text(axis.at(tick), LINE_HEIGHT - BOTTOM + 16, f"{tick:,.0f}", "middle")


def _vertical(axis: _Axis, tick: float, height: float) -> str:
    x = axis.at(tick)
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
    return line + _text(x, height - BOTTOM + 16, f"{tick:.4g}", "middle")
