"""The worker: one process, one attempt at one job; the same run as `luthier run`, told to the database.

python -m luthier.jobs.service.worker --home HOME --job ID --attempt N
"""

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TextIO

import filelock

from luthier.core.errors import Interrupted, LuthierError
from luthier.core.runfolder import RunFolder
from luthier.core.waiting import settle_waiting
from luthier.jobs.pipeline import run_recipe
from luthier.jobs.rooms import real_rooms
from luthier.jobs.service.ids import Id
from luthier.jobs.service.queue import FencedError
from luthier.jobs.service.recipes import plan_of, settled
from luthier.jobs.service.records import JobError, JobRecord
from luthier.jobs.service.report import Reporter
from luthier.jobs.service.service import Service, open_service
from luthier.jobs.service.settings import ServiceSettings

NICER = 10
"""Answers come before training where both want the processor."""
BEATS = 4
"""Signs of life per lease."""
DISK_FULL = 28
"""Exit status of a worker that cannot even write down that the disk is full: the number of that error."""
LOG = "worker.log"


def main() -> None:
    """Do the attempt that the arguments name."""
    settle_waiting()
    parser = argparse.ArgumentParser(description="One attempt at one job of the service.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--job", type=Id, required=True)
    parser.add_argument("--attempt", type=int, required=True)
    given = parser.parse_args()
    settings = ServiceSettings.model_validate_json(_line_of_the_server())
    threading.Thread(target=_die_with_the_server, daemon=True).start()
    # A server started in the background may have been told to ignore it, and we would have inherited that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.nice(NICER)
    service = open_service(given.home, settings)
    job = service.queue.get(given.job)
    if job is None or job.attempt != given.attempt:
        return
    with (service.home.job(given.job) / LOG).open("a", encoding="utf-8") as log:
        faulthandler.enable(log)
        threading.Thread(target=_beat, args=(service, job), daemon=True).start()
        sys.exit(work(service, job, log=log))


def work(service: Service, job: JobRecord, *, log: TextIO) -> int:
    """Run the job and write down how it ended; return the process's exit status."""
    try:
        _run(service, job)
    except (Interrupted, KeyboardInterrupt):
        return 0 if service.queue.paused(job.id, job.attempt) else 1
    except FencedError:
        return 0
    except filelock.Timeout:
        # The last worker still hangs on: the next attempt may find it gone.
        return 1
    except Exception as error:  # noqa: BLE001 (the worker's last act: whatever it was, the job must end with a reason)
        _write_log(log, error)
        return _failed(service, job, error_of(error))
    return 0


def _run(service: Service, job: JobRecord) -> None:
    folder = RunFolder(service.home.job(Id(job.id)))
    _wait_for(folder, service.settings.lease_s)
    rooms = real_rooms()
    report = Reporter(service, job)
    plan = plan_of(job, folder, service.settings, rooms=rooms, emit=lambda event: None)
    report.settled(settled(job, plan))
    result = run_recipe(plan, folder, listeners=(report,), rooms=rooms)
    report.succeeded(result.trained, epochs=round(plan.train.epochs or 1))


def _wait_for(folder: RunFolder, seconds: float) -> None:
    """Wait until the worker of a server that was killed is gone too; it dies as soon as it notices."""
    with filelock.FileLock(folder.path / ".lock", timeout=seconds):
        return


def _failed(service: Service, job: JobRecord, error: JobError) -> int:
    try:
        service.queue.fail(job.id, error, job.attempt)
    except LuthierError:
        return DISK_FULL
    return 0


def error_of(error: Exception) -> JobError:
    """Return what a client is told of a failure: one line, without this machine's paths."""
    if isinstance(error, LuthierError):
        code = {"the disk is full": "disk_full", "out of memory": "out_of_memory"}.get(error.what, error.code)
        return JobError(code=code, message=_one_line(error))
    if isinstance(error, MemoryError):
        return JobError(code="out_of_memory", message="The training ran out of memory.")
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return JobError(code="server_error", message=f"An internal error ended the job: {type(error).__name__} in {where}.")


def _one_line(error: LuthierError) -> str:
    fields = [f"{name} {value}" for name, value in error.where.items() if not value.startswith(("/", "~"))]
    parts = [error.what, *fields, *filter(None, (error.why, error.hint))]
    words = " ".join("; ".join(parts).split()).split(" ")
    text = " ".join(Path(word).name if word.startswith("/") else word for word in words)
    return text[:1].upper() + text[1:]


def _write_log(log: TextIO, error: Exception) -> None:
    """Keep the lines of code that were reached; never an error's text, which may hold rows of the data."""
    with contextlib.suppress(OSError):
        log.write("".join([f"{type(error).__name__}\n", *traceback.format_tb(error.__traceback__)]))
        log.flush()


def _line_of_the_server() -> bytes:
    """Return the first line of the pipe that the server holds: the settings it works with."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            _end()
        line += byte
    return line


def _beat(service: Service, job: JobRecord) -> None:
    """Renew the lease until the job is no longer ours; then end at once."""
    pause = threading.Event()
    while not pause.wait(service.settings.lease_s / BEATS):
        try:
            service.queue.hold(job.id, job.attempt)
        except FencedError:
            _end()
        except LuthierError:
            # The disk is full: the step under way finds out for itself.
            continue


def _die_with_the_server() -> None:
    """Read the pipe that the server holds; its end means that the server is gone."""
    while os.read(0, 1):
        pass
    _end()


def _end() -> None:
    """End this process and everything it has started, at once."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
