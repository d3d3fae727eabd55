"""The charts: within their frame, named for screen readers, escaped, and sound on odd data."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluate.svg import WIDTH, Bar, Line, interval_chart, line_chart

values = st.floats(0, 1e9) | st.floats(0, 1e-6)


def check_numbers_inside(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    height = float(root.attrib["viewBox"].split()[3])
    for element in root.iter():
        for name in ("x1", "x2", "cx"):
            assert -0.1 <= float(element.attrib.get(name, 0)) <= WIDTH + 0.1
        for name in ("y1", "y2", "cy"):
            assert -0.1 <= float(element.attrib.get(name, 0)) <= height + 0.1
        for x, y in re.findall(r"(\S+),(\S+)", element.attrib.get("points", "")):
            assert -0.1 <= float(x) <= WIDTH + 0.1
            assert -0.1 <= float(y) <= height + 0.1
    return root


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), values), min_size=1, max_size=20))
def test_any_series_can_be_drawn(points: list[tuple[int, float]]) -> None:
    root = check_numbers_inside(line_chart("Loss", [Line("training", tuple(sorted(points)))]))
    assert 1 <= len(root.findall("text")) <= 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(values, values, values).map(sorted), min_size=1, max_size=6))
def test_any_intervals_can_be_drawn(triples: list[list[float]]) -> None:
    bars = [Bar(f"system {i}", value, low, high) for i, (low, value, high) in enumerate(triples)]
    root = check_numbers_inside(interval_chart("accuracy", bars))
    assert len(root.findall("g")) == len(bars)


def test_charts_say_their_numbers_and_escape_names() -> None:
    svg = interval_chart("accuracy", [Bar('<b>&"', 0.5, 0.25, 0.75, highlighted=True)])
    assert "<b>" not in svg
    assert 'aria-label="accuracy. &lt;b&gt;&amp;&quot; 0.5, 95 % interval 0.25 to 0.75"' in svg
    assert 'class="s1"' in svg


@pytest.mark.parametrize("steps", [1, 2, 3, 39, 1000])
def test_step_ticks_are_whole(steps: int) -> None:
    root = ElementTree.fromstring(line_chart("Loss", [Line("training", tuple((s, 1.0) for s in range(1, steps + 1)))]))
    ticks = [e.text for e in root.findall("text") if e.attrib["text-anchor"] == "middle"]
    assert 1 <= len(ticks) <= 7
    assert len(set(ticks)) == len(ticks)
    assert not any(math.isnan(float(tick.replace(",", ""))) for tick in ticks)
