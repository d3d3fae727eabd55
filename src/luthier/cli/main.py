"""The entry of `luthier`: turns every failure into text and an exit status.

It imports little, so that Ctrl-C is one line also while the commands are loaded.
"""

import errno
import io
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from luthier.cli.tell import error_json, put_json, say
from luthier.core.errors import Interrupted, LuthierError, ResourceError
from luthier.core.waiting import settle_waiting

CRASH_STATUS = 70
FULL = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Run the command line and leave with its exit status."""
    settle_waiting()
    # What libraries tell their developers is no talk for a person at a terminal.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    # A file's name and what is piped in may be any bytes, and a terminal may not know every character.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        status = _flush(_status())
    except KeyboardInterrupt:
        status = _failed(Interrupted("stopped"))
    # What is left is tidying up, which takes a moment once torch is loaded; the status is settled.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _status() -> int:
    try:
        from luthier.cli.app import work

        returned = work()
    except LuthierError as error:
        return _failed(error)
    except OSError as error:
        return _failed(_full(error)) if error.errno in FULL else _crashed(error)
    except Exception as error:  # noqa: BLE001 (the one door where an unforeseen error may end)
        return _crashed(error)
    if returned == Interrupted.exit_status:
        return _failed(Interrupted("stopped"))
    return returned if isinstance(returned, int) else 0


def _failed(error: LuthierError) -> int:
    say(str(error))
    if "--json" in sys.argv:
        put_json(error_json(error))
    return error.exit_status


def _full(error: OSError) -> ResourceError:
    hint = "free some space, or send the output elsewhere"
    return ResourceError("the disk is full", where={"path": error.filename or "standard output"}, hint=hint)


def _flush(status: int) -> int:
    """Write out what is buffered, and return the status to leave with."""
    if sys.stdout is None:
        return status
    try:
        sys.stdout.flush()
    except OSError as error:
        # Nothing more may be written, not even at exit; whoever read our output and has left knows.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status if status or isinstance(error, BrokenPipeError) else _failed(_full(error))
    return status


def _crashed(error: Exception) -> int:
    path = Path(tempfile.gettempdir()) / f"luthier-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        told = f"the details are in {path}; please report them"
    except OSError:
        told = "the details could not be saved"
    say(f"error: something unforeseen happened ({type(error).__name__}): {told}")
    return CRASH_STATUS
