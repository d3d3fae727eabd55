import io

import pytest
from rich.console import Console

from luthier.cli.progress import Progress, duration, metrics_text
from luthier.core.events import Event

METRICS = {
    "step": 3,
    "steps": 9,
    "loss": 1.25,
    "validation_loss": 1.5,
    "tokens_per_second": 1234.5,
    "cpu_percent": 180.0,
    "memory_bytes": 2.1e9,
    "seconds_left": 125,
}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (8.25, "8.2 s"), (12.6, "13 s"), (125, "2:05 min"), (7800, "2:10 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_metrics_in_words() -> None:
    assert metrics_text(METRICS) == "loss 1.250  validation 1.500  1,234 tokens/s  CPU 180 %  2.1 GB  2:05 min left"
    assert metrics_text({"step": 0, "steps": 9, "validation_loss": 2.0}) == "validation 2.000"


def test_without_a_terminal_each_turn_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress(Event(room="jobs", kind="start", message="train"))
        progress(Event(room="train", kind="warning", message="few [rows]"))
        for step in range(1, 10):
            progress(Event(room="train", kind="metrics", data=METRICS | {"step": step}))
        progress(Event(room="jobs", kind="done", message="train", data={"seconds": 3.0}))
        progress(Event(room="evaluate", kind="progress", message="tuned", data={"done": 5, "total": 5}))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training" and lines[1] == "  warning: few [rows]" and lines[-2] == "  done in 3.0 s"
    assert [line.split()[1] for line in lines if line.startswith("  training")] == ["1/9", "9/9"]
    assert lines[-1] == "  evaluation 5/5  tuned"


def test_on_a_terminal_there_is_a_bar() -> None:
    progress = Progress()
    progress.bars.disable = False
    progress.bars.live.console = progress.console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with progress:
        progress(Event(room="train", kind="metrics", data=METRICS))
        assert [(task.completed, task.total) for task in progress.bars.tasks] == [(3, 9)]
        progress(Event(room="jobs", kind="start", message="evaluate"))
        assert progress.bars.tasks == []
