"""The service's home: one private folder; every path in it is made here, from ids alone."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from luthier.core.errors import ResourceError
from luthier.core.files import disk_errors
from luthier.jobs.service.ids import Id

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
RESERVE_BYTES = 1 << 20


@dataclass(frozen=True)
class Home:
    """Where things lie in the service's folder."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "service.db"

    @property
    def settings(self) -> Path:
        """What the owner has set."""
        return self.path / "service.yaml"

    @property
    def lock(self) -> Path:
        """Held by the one server that works here."""
        return self.path / ".lock"

    @property
    def files(self) -> Path:
        """Uploaded and result files, named by their ids."""
        return self.path / "files"

    @property
    def uploads(self) -> Path:
        """A folder of parts for each upload under way."""
        return self.path / "uploads"

    @property
    def jobs(self) -> Path:
        """A run folder for each job."""
        return self.path / "jobs"

    def file(self, id: Id) -> Path:
        """Return where a file's bytes lie."""
        return self.files / id

    def upload(self, id: Id) -> Path:
        """Return the folder of an upload's parts."""
        return self.uploads / id

    def job(self, id: Id) -> Path:
        """Return a job's run folder."""
        return self.jobs / id

    def relative(self, path: Path) -> str:
        """Return a path in the home as the database keeps it, so that the home can be moved."""
        return path.relative_to(self.path).as_posix()

    @property
    def reserve(self) -> Path:
        """Space held back, so that on a full disk there is room to write down that it is full."""
        return self.path / ".reserve"

    def hold_reserve(self) -> None:
        """Hold space back where there is enough of it."""
        if not self.reserve.exists() and shutil.disk_usage(self.path).free > 4 * RESERVE_BYTES:
            with contextlib.suppress(OSError):
                self.reserve.write_bytes(bytes(RESERVE_BYTES))

    def use_reserve(self) -> None:
        """Give the space held back to what must be written now."""
        self.reserve.unlink(missing_ok=True)


def open_home(path: Path) -> Home:
    """Make the home and its folders where they are missing, readable by their owner alone."""
    home = Home(path.expanduser().absolute())
    with disk_errors(home.path):
        for folder in (home.path, home.files, home.uploads, home.jobs):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            if folder.is_symlink() and folder != home.path:
                raise ResourceError("a folder of the home is a link", where={"folder": folder}, hint="remove the link")
        home.path.chmod(PRIVATE_FOLDER)
    return home


def open_new(path: Path) -> BinaryIO:
    """Create a private file for writing; it must not exist, not even as a link."""
    return os.fdopen(_opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def open_kept(path: Path) -> BinaryIO:
    """Open a file of the home for reading; a link is never followed."""
    return os.fdopen(_opened(path, os.O_RDONLY), "rb")


def _opened(path: Path, flags: int) -> int:
    # Through the folder, which must not be a link either: a name swapped meanwhile leads nowhere.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE, dir_fd=folder)
    finally:
        os.close(folder)


def remove(path: Path) -> None:
    """Remove a file or a folder of the home, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
