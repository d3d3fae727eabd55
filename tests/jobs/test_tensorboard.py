from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luthier.core.errors import ResourceError
from luthier.core.events import Event
from luthier.jobs.tensorboard import TensorBoard


def measured(step: int, loss: float) -> Event:
    return Event(room="train", kind="metrics", data={"step": step, "steps": 3, "loss": loss, "validation_loss": None})


def points(folder: Path) -> list[tuple[int, float]]:
    read = EventAccumulator(str(folder))
    read.Reload()
    assert read.Tags()["scalars"] == ["train/loss"]
    return [(point.step, point.value) for point in read.Scalars("train/loss")]


def test_metrics_become_curves(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "board")
    board(Event(room="data", kind="note", message="no curve"))
    assert not (tmp_path / "board").exists()
    for step, loss in ((1, 2.0), (2, 1.5)):
        board(measured(step, loss))
    assert points(tmp_path / "board") == [(1, 2.0), (2, 1.5)], "written before it is closed"
    board.close()


def test_steps_measured_again_replace_the_first(tmp_path: Path) -> None:
    for begins in (1, 2):
        board = TensorBoard(tmp_path)
        for step in range(begins, 4):
            board(measured(step, 10.0 * begins + step))
        board.close()
    assert points(tmp_path) == [(1, 11.0), (2, 22.0), (3, 23.0)]


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("a file")
    board = TensorBoard(tmp_path / "board")
    with pytest.raises(ResourceError, match="cannot write"):
        board(measured(1, 2.0))
    board.close()
