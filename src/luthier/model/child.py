"""Untrusted files are opened in a child process: it may hang or crash, and this process goes on."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence

from luthier.core.errors import ModelError


def run_child(
    module: str, arguments: Sequence[str], *, what: str, seconds: float, on_line: Callable[[str], None] | None = None
) -> None:
    """Run a module of this package in a fresh Python without network; `what` names the failure if it fails."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        # The command is this Python and one of our modules; only file names come from outside, as single arguments.
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:  # noqa: S603
            in_time = _heard_out(process, on_line or str, seconds=seconds)
        if process.returncode != 0:
            errors.seek(0)
            raise ModelError(what, why=_reason(errors.read(), in_time=in_time, seconds=seconds))


def _heard_out(process: subprocess.Popen[str], on_line: Callable[[str], object], *, seconds: float) -> bool:
    """Wait for the child, and return whether it ended by itself in time."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        for line in process.stdout or ():
            on_line(line.strip())
        process.wait()
        return timer.is_alive()
    finally:
        # After Ctrl-C neither the timer nor the child may keep this process waiting.
        timer.cancel()
        process.kill()


def limit_memory(extra_bytes: int) -> None:
    """Let this process take that much more memory and no more (on Linux, where the limit is kept)."""
    if sys.platform != "linux":
        return
    import resource

    import psutil

    limit = psutil.Process().memory_info().vms + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _reason(errors: str, *, in_time: bool, seconds: float) -> str:
    if not in_time:
        return f"it took longer than {seconds:.0f} s"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if not lines:
        return "it needed too much time or memory, and was stopped"
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1])
