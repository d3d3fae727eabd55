"""A trial's process, seen from the search: what it says, and how it is stopped."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import Interrupted
from luthier.jobs.search.child import FAILED, JUDGED

MODULE = "luthier.jobs.search.child"
LOG = "worker.log"


@dataclass(frozen=True)
class Said:
    """A validation loss of a trial, or with `ended` its process's exit status."""

    trial: int
    loss: dict[str, Any] | None = None
    ended: int | None = None


class Worker:
    """One trial's process."""

    def __init__(self, trial: int, folder: Path, said: "queue.Queue[Said]") -> None:
        self.trial, self.folder, self._said = trial, folder, said
        self.started = time.monotonic()
        (folder / JUDGED).unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", MODULE, str(folder)]
        self._log = (folder / LOG).open("a", encoding="utf-8")
        # The command is this Python and one of our modules; its group is its own, so that Ctrl-C reaches only us.
        self.process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            if line.startswith("{"):
                self._said.put(Said(self.trial, loss=json.loads(line)))
        self._said.put(Said(self.trial, ended=self.process.wait()))

    def stop(self) -> None:
        """Let the step end and a checkpoint be written."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, with everything it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close what is open of a process that has ended."""
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream:
                stream.close()

    def judged(self) -> dict[str, Any] | None:
        """Return what the trial found, or None where it did not come so far."""
        path = self.folder / JUDGED
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def why(self, status: int) -> str:
        """Return why the trial failed."""
        path = self.folder / FAILED
        if path.exists():
            return str(json.loads(path.read_text(encoding="utf-8"))["why"])
        if status == Interrupted.exit_status:
            return "it was interrupted"
        if status < 0:
            return f"its process was ended by signal {-status}; too little memory is the usual reason"
        lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"its process ended with status {status}: {lines[-1] if lines else 'nothing was said'}"
