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
        curves = [_tracking(name, folder) for name in dict.fromkeys(trackers)]
        for one in curves:
            opened.callback(one.close)
        yield EventLog(folder.events, (*curves, *listeners))


def _tracking(name: TrackerName, folder: RunFolder) -> TensorBoard | Tracking:
    return TensorBoard(folder.path / "tensorboard") if name == "tensorboard" else Tracking(name, folder)
