"""The supervisor: reads files, hands jobs to worker processes, and watches over them."""

import contextlib
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import LuthierError
from luthier.jobs.service.examine import StoppedError, examine
from luthier.jobs.service.files import Files
from luthier.jobs.service.home import Home
from luthier.jobs.service.ids import Id
from luthier.jobs.service.queue import Queue
from luthier.jobs.service.records import ENDED, JobError, JobRecord
from luthier.jobs.service.settings import ServiceSettings
from luthier.jobs.service.uploads import Uploads

log = logging.getLogger("luthier.service")

TICK_S = 0.2
"""How often workers are looked at."""
SWEEP_S = 60.0
"""How often expired files are looked for."""
STOP_S = 20.0
DISK_FULL = 28
"""Exit status of a worker that could not write down why it failed."""
OUT_OF_MEMORY = JobError(
    code="out_of_memory",
    message="The training process was ended by the system, most likely for want of memory. "
    "Use shorter examples, a smaller batch_size or a smaller base model.",
)
NO_SPACE = JobError(code="disk_full", message="The disk is full.")


@dataclass
class Worker:
    """A worker's process, as the supervisor sees it."""

    process: subprocess.Popen[bytes]
    attempt: int
    told_to_pause: bool = False
    killed_because: str | None = None


class Supervisor:
    """Two threads: one reads the files of new jobs, one starts workers and watches them."""

    def __init__(self, home: Home, settings: ServiceSettings, *, queue: Queue, files: Files, uploads: Uploads) -> None:
        self.home = home
        self.settings = settings
        self.queue = queue
        self.files = files
        self.uploads = uploads
        self.workers: dict[str, Worker] = {}
        self.command: tuple[str, ...] = (sys.executable, "-P", "-m", "luthier.jobs.service.worker")
        """What a worker is started with, before its home, job and attempt."""
        self._stop = threading.Event()
        self._work, self._unchecked = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._next_sweep = 0.0
        self._troubled = False

    def start(self) -> None:
        """Begin; what an earlier server left has been put back into the queue."""
        for name, loop in (("luthier-workers", self._watch_over), ("luthier-files", self._examine_all)):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End both threads and all workers; the next start goes on with their jobs."""
        self._stop.set()
        self.wake()
        for thread in self._threads:
            thread.join(STOP_S)
        for worker in self.workers.values():
            _kill(worker)
            worker.process.wait()

    def wake(self) -> None:
        """Something has changed that should be acted on now."""
        self._work.set()
        self._unchecked.set()

    @property
    def is_alive(self) -> bool:
        """Whether both threads run."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def _watch_over(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
                self._troubled = False
            except (LuthierError, sqlite3.Error, OSError) as error:
                self._trouble(error)
            self._work.wait(TICK_S if self.workers else 5 * TICK_S)
            self._work.clear()

    def _examine_all(self) -> None:
        while not self._stop.is_set():
            try:
                job = self.queue.unchecked()
                if job is not None:
                    self._examine(job)
                    continue
            except StoppedError:
                return
            except (LuthierError, sqlite3.Error, OSError) as error:
                self._trouble(error)
            self._unchecked.wait(5 * TICK_S)
            self._unchecked.clear()

    def _trouble(self, error: Exception) -> None:
        """A full disk, most likely: nothing is lost, and the next turn tries again, with the space held back."""
        self.home.use_reserve()
        if not self._troubled:
            log.error("trying again until it works: %s", error)
        self._troubled = True

    def _examine(self, job: JobRecord) -> None:
        error = examine(job, self.home.job(Id(job.id)), self._stop)
        if error is None:
            self.queue.admit(job.id)
        else:
            self.queue.fail(job.id, error)
        self._work.set()

    def tick(self) -> None:
        """Look at every worker once, and start what can be started."""
        self._end_watch()
        self._obey()
        while len(self.workers) < self.settings.jobs_at_once and not self._stop.is_set():
            job = self.queue.claim()
            if job is None:
                break
            self._launch(job)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_S
            self.home.hold_reserve()
            self.files.expire()
            self.uploads.expire()

    def _launch(self, job: JobRecord) -> None:
        words = ["--home", str(self.home.path), "--job", job.id, "--attempt", str(job.attempt)]
        command = [*self.command, *words]
        try:
            # This Python, one of our modules, and ids that we made.
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            why = f"No process could be started: {error.strerror}"
            self.queue.crashed(job.id, job.attempt, why, JobError(code="server_error", message=why))
            return
        self.workers[job.id] = Worker(process, job.attempt)
        # The pipe stays open: its end tells the worker that we are gone.
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(self.settings.model_dump_json().encode() + b"\n")
                process.stdin.flush()

    def _end_watch(self) -> None:
        """Take note of workers that have ended; one that left its job unfinished has crashed."""
        for id, worker in list(self.workers.items()):
            status = worker.process.poll()
            if status is None:
                continue
            if status == DISK_FULL:
                self.queue.fail(id, NO_SPACE, worker.attempt)
            else:
                why, error = _crash(worker, status)
                self.queue.crashed(id, worker.attempt, why, error)
            _close(worker)
            del self.workers[id]
            job = self.queue.get(id)
            if job is None or job.status in ENDED:
                _tidy(self.home.job(Id(id)))

    def _obey(self) -> None:
        """Stop workers whose job was cancelled or that give no sign of life, and pause those that are to pause."""
        rows = {row["id"]: row for row in self.queue.at_work()}
        for id, worker in self.workers.items():
            row = rows.get(id)
            if row is None or row["attempt"] != worker.attempt:
                worker.killed_because = "The job was cancelled"
                _kill(worker)
            elif row["lease_until"] < time.monotonic():
                worker.killed_because = "The training process gave no sign of life"
                _kill(worker)
            elif row["status"] == "pausing" and not worker.told_to_pause:
                worker.told_to_pause = True
                worker.process.send_signal(signal.SIGINT)


def _crash(worker: Worker, status: int) -> tuple[str, JobError]:
    """Return what to say of a worker's end: to go on with, and if the job gets no further."""
    if worker.killed_because:
        return worker.killed_because, JobError(code="server_error", message=f"{worker.killed_because}.")
    if status == -signal.SIGKILL:
        return "The training process was ended by the system", OUT_OF_MEMORY
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    why = f"The training process ended unexpectedly ({name})"
    return why, JobError(code="server_error", message=f"{why}.")


def _kill(worker: Worker) -> None:
    """End a worker and everything it has started."""
    try:
        os.killpg(worker.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tidy(folder: Path) -> None:
    """Remove what only a job under way needs: the tokens of its rows, and the optimiser's states."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    shutil.rmtree(folder / "train" / "checkpoints", ignore_errors=True)


def _close(worker: Worker) -> None:
    if worker.process.stdin is not None:
        worker.process.stdin.close()
