"""TensorBoard: the measurements of training, as curves."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.events import Event
from luthier.core.files import disk_errors

if TYPE_CHECKING:
    from tensorboard.summary.writer.record_writer import RecordWriter

NOT_CURVES = ("step", "steps", "seconds_left")
VERSION = "brain.Event:2"
"""What the first record of such a file says, by TensorBoard's format."""


class TensorBoard:
    """A listener that writes training metrics into a folder for `tensorboard --logdir`.

    Record by record and not by TensorBoard's own writer, whose thread answers a full disk with a traceback.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records: RecordWriter | None = None

    def __call__(self, event: Event) -> None:
        """Add one point to each curve."""
        if event.room != "train" or event.kind != "metrics":
            return
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = {name: value for name, value in event.data.items() if name not in NOT_CURVES}
        values = [
            Summary.Value(tag=f"train/{name}", simple_value=value)
            for name, value in numbers.items()
            if isinstance(value, int | float)
        ]
        with disk_errors(self.folder):
            records = self._records or self._open(event.data["step"])
            record = Record(wall_time=event.time_s, step=event.data["step"], summary=Summary(value=values))
            records.write(record.SerializeToString())
            records.flush()

    def _open(self, step: int) -> "RecordWriter":
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._records = RecordWriter(file.open("wb", buffering=0))
        # After a resume the steps since the checkpoint are measured again; their first points are dropped.
        begins = Record(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))
        for record in (Record(wall_time=time.time(), file_version=VERSION), begins):
            self._records.write(record.SerializeToString())
        return self._records

    def close(self) -> None:
        """Close the file."""
        if self._records is not None:
            self._records.close()
