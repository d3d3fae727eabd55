from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luthier.core.events import Event
from luthier.jobs.tensorboard import TensorBoard


def test_metrics_become_curves(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "board")
    board(Event(room="data", kind="note", message="no curve"))
    assert not (tmp_path / "board").exists()
    for step, loss in ((1, 2.0), (2, 1.5)):
        board(
            Event(room="train", kind="metrics", data={"step": step, "steps": 2, "loss": loss, "validation_loss": None})
        )
    board.close()
    read = EventAccumulator(str(tmp_path / "board"))
    read.Reload()
    assert read.Tags()["scalars"] == ["train/loss"]
    assert [(point.step, point.value) for point in read.Scalars("train/loss")] == [(1, 2.0), (2, 1.5)]
