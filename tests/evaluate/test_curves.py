"""Reading and thinning training curves."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from luthier.evaluate.curves import Curves, read_curves, thinned


def write(path: Path, rows: list[dict[str, object]], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_reads_each_series_by_step(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "loss": 2.0, "learning_rate": 1e-4, "grad_norm": 1.5, "tokens_per_second": 90, "epoch": 0},
        {"step": 2, "loss": 1.5, "validation_loss": 1.7},
    ]
    curves = read_curves(write(tmp_path / "metrics.jsonl", rows))
    assert curves.loss == ((1, 2.0), (2, 1.5))
    assert curves.validation_loss == ((2, 1.7),)
    assert curves.learning_rate == ((1, 1e-4),)
    assert (curves.grad_norm, curves.tokens_per_second) == (((1, 1.5),), ((1, 90.0),))


def test_a_resumed_step_counts_as_measured_last(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 1.0}]
    assert read_curves(write(tmp_path / "m.jsonl", rows)).loss == ((1, 2.0), (2, 1.0))


def test_gaps_cut_lines_and_missing_files(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": None}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 1.0}]
    assert read_curves(write(tmp_path / "m.jsonl", rows, tail='{"step": 4, "lo')).loss == ((3, 1.0),)
    assert read_curves(tmp_path / "none.jsonl") == Curves()


@given(st.lists(st.floats(-100, 100), max_size=60), st.integers(1, 20))
def test_thinning_keeps_the_mean_and_the_last_step(values: list[float], points: int) -> None:
    series = tuple(enumerate(values))
    thin = thinned(series, points)
    assert len(thin) <= points
    if values:
        assert thin[-1][0] == len(values) - 1
        assert min(values) - 1e-6 <= min(v for _, v in thin) <= max(v for _, v in thin) <= max(values) + 1e-6
    if len(values) <= points:
        assert thin == series
