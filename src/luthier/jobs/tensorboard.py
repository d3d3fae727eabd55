"""TensorBoard: the measurements of training, as curves."""

from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.events import Event
from luthier.core.files import disk_errors

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NOT_CURVES = ("step", "steps", "seconds_left")


class TensorBoard:
    """A listener that writes training metrics into a folder for `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        """Add one point to each curve."""
        if event.room != "train" or event.kind != "metrics":
            return
        step = event.data["step"]
        if self._writer is None:
            self._writer = self._open(step)
        for name, value in event.data.items():
            if name not in NOT_CURVES and isinstance(value, int | float):
                self._writer.add_scalar(f"train/{name}", value, step)

    def _open(self, step: int) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        with disk_errors(self.folder):
            # After a resume the steps since the checkpoint are measured again; their first points are dropped.
            return SummaryWriter(str(self.folder), purge_step=step)

    def close(self) -> None:
        """Write out what is buffered."""
        if self._writer is not None:
            self._writer.close()
