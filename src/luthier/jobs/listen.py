"""Who hears the events of a run: the log in its folder, the trackers, and whom the caller brings."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from luthier.core.events import Emit, Event, EventLog
from luthier.core.runfolder import RunFolder
from luthier.jobs.tensorboard import TensorBoard
from luthier.jobs.trackers import Tracking
from luthier.recipe import TrackerName

Listener = Callable[[Event], None]


@contextlib.contextmanager
def listening(
    folder: RunFolder, listeners: tuple[Listener, ...], trackers: Sequence[TrackerName] = ()
) -> Iterator[Emit]:
    """Yield what the rooms call to report; everything heard is written by the end."""
    folder.mend_events()
    with contextlib.ExitStack() as opened:
        curves: list[TensorBoard | Tracking] = []

        def warn(message: str) -> None:
            log(Event(room="jobs", kind="warning", message=message))

        for name in dict.fromkeys(trackers):
            curves.append(_tracking(name, folder, warn))
            opened.callback(curves[-1].close)
        log = EventLog(folder.events, (*curves, *listeners))
        yield log


def _tracking(name: TrackerName, folder: RunFolder, warn: Callable[[str], None]) -> TensorBoard | Tracking:
    return TensorBoard(folder.path / "tensorboard") if name == "tensorboard" else Tracking(name, folder, warn)
