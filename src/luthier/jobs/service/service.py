"""The service: its parts put together over one home."""

from pathlib import Path

import filelock

from luthier.core.errors import ResourceError
from luthier.jobs.service.catalogue import Catalogue
from luthier.jobs.service.database import Database, open_database
from luthier.jobs.service.deployments import Deployments
from luthier.jobs.service.events import Events
from luthier.jobs.service.files import Files
from luthier.jobs.service.home import Home, open_home
from luthier.jobs.service.keys import Keys
from luthier.jobs.service.queue import Queue
from luthier.jobs.service.settings import ServiceSettings, read_settings, write_default
from luthier.jobs.service.supervisor import Supervisor
from luthier.jobs.service.tuning import Tuning
from luthier.jobs.service.uploads import Uploads


class Service:
    """Everything stored and queued; `start` makes this process the one that works on it."""

    def __init__(self, home: Home, database: Database, settings: ServiceSettings) -> None:
        self.home = home
        self.database = database
        self.settings = settings
        self.files = Files(home, database)
        self.uploads = Uploads(home, database, self.files)
        self.keys = Keys(database)
        self.catalogue = Catalogue(home, database, settings)
        self.deployments = Deployments(database, self.catalogue)
        self.events = Events(database)
        self.queue = Queue(database, self.events, lease_s=settings.lease_s)
        self.supervisor = Supervisor(home, settings, queue=self.queue, files=self.files, uploads=self.uploads)
        self.tuning = Tuning(
            home,
            database,
            files=self.files,
            catalogue=self.catalogue,
            events=self.events,
            queue=self.queue,
            wake=self.supervisor.wake,
        )
        self._lock = filelock.FileLock(home.lock)

    def start(self) -> None:
        """Take the home, put right what an earlier server left, and begin to work."""
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            hint = "stop it, or choose another home with `--home`"
            raise ResourceError(
                "another server works in this home", where={"home": self.home.path}, hint=hint
            ) from error
        # First the queue: from then on nothing that is still alive of the last server can write.
        self.queue.recover()
        self.uploads.expire()
        self.files.expire()
        for part in (self.uploads, self.files, self.tuning):
            part.sweep()
        self.supervisor.start()

    def stop(self) -> None:
        """End all work and leave the home; jobs under way go on at the next start."""
        self.supervisor.stop()
        self._lock.release()
        self.database.close()


def open_service(home: Path, settings: ServiceSettings | None = None) -> Service:
    """Open a home, making it where it is missing; no thread is started and nothing is taken."""
    opened = open_home(home)
    if not opened.settings.exists():
        write_default(opened.settings)
    return Service(opened, open_database(opened.database), settings or read_settings(opened.settings))
