"""Who hears the events of a run: the log in its folder, TensorBoard, and whom the caller brings."""

import contextlib
from collections.abc import Callable, Iterator

from luthier.core.events import Emit, Event, EventLog
from luthier.core.runfolder import RunFolder
from luthier.jobs.tensorboard import TensorBoard

Listener = Callable[[Event], None]


@contextlib.contextmanager
def listening(folder: RunFolder, listeners: tuple[Listener, ...]) -> Iterator[Emit]:
    """Yield what the rooms call to report; everything heard is written by the end."""
    folder.mend_events()
    board = TensorBoard(folder.path / "tensorboard")
    try:
        yield EventLog(folder.events, (board, *listeners))
    finally:
        board.close()
