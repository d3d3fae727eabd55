"""Snapshots: the weights at the end of an epoch, kept as models of their own."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from luthier.core.files import disk_errors, whole_folder

FOLDER = "snapshots"
_NAME = re.compile(r"step-(\d{8})")


def keep(out: Path, step: int, write: Callable[[Path], None], *, most: int) -> Path:
    """Write the weights of a step whole, leave the newest `most` up to that step, and return their folder."""
    path = out / FOLDER / f"step-{step:08d}"
    with whole_folder(path) as beside:
        write(beside)
    # After a kill there may be later ones; the run comes to them again.
    for old in _steps_until(path)[:-most]:
        with disk_errors(old):
            shutil.rmtree(old)
    return path


def _steps_until(path: Path) -> list[Path]:
    found = [other for other in path.parent.iterdir() if _NAME.fullmatch(other.name)]
    return sorted(other for other in found if other.name <= path.name)
