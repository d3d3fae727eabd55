"""Curves: what training measured step by step, read for the plots of the report."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

Series = tuple[tuple[int, float], ...]
"""(step, value), by rising step."""


@dataclass(frozen=True)
class Curves:
    """The measurements of a training by step; a series is empty where nothing was measured."""

    loss: Series = ()
    """Mean loss per target token, or per pair, of each logged step, in nats."""
    validation_loss: Series = ()
    """Mean loss per target token, or per pair, of the validation split, in nats."""
    learning_rate: Series = ()
    grad_norm: Series = ()
    """L2 norm of the gradients before clipping."""
    tokens_per_second: Series = ()
    """Real tokens trained per second."""


def read_curves(path: Path) -> Curves:
    """Read `train/metrics.jsonl`; a step measured twice (after a resume) counts as measured last.

    A last line cut by a crash, and values that are no finite numbers, are gaps in the curve.
    """
    series: dict[str, dict[int, float]] = {name: {} for name in Curves.__dataclass_fields__}
    for row in _rows(path):
        for name, points in series.items():
            if (value := _finite(row.get(name))) is not None and isinstance(row.get("step"), int):
                points[row["step"]] = value
    return Curves(**{name: tuple(sorted(points.items())) for name, points in series.items()})


def _rows(path: Path) -> list[dict[str, object]]:
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [json.loads(line) for line in lines[:-1] if line.strip()]


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def thinned(series: Series, points: int) -> Series:
    """Return at most `points` points, each the mean of equally many neighbours."""
    width = max(1, math.ceil(len(series) / points))
    groups = [series[start : start + width] for start in range(0, len(series), width)]
    return tuple((group[-1][0], sum(value for _, value in group) / len(group)) for group in groups)
