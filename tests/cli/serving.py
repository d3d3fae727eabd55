"""`luthier serve` in a process of its own, as a person starts it."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.tiny_run import COMMAND, environment

SERVING = re.compile(r"serving at (\S+), home")
SECONDS = 60


@dataclass
class Server:
    """A started server, and what it says."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    lines: "queue.Queue[str | None]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stderr:
            self.lines.put(line)
        self.lines.put(None)

    def address(self) -> str:
        """Wait until it serves, and return where."""
        end = time.monotonic() + SECONDS
        while line := self.lines.get(timeout=max(0.0, end - time.monotonic())):
            self.said.append(line)
            if found := SERVING.search(line):
                return found[1]
        raise AssertionError("".join(self.said))

    def first_key(self) -> str:
        return self.process.stdout.readline().strip()

    def stop(self, number: int = signal.SIGINT) -> str:
        """End it, and return all that it said."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(SECONDS)
        while line := self.lines.get(timeout=SECONDS):
            self.said.append(line)
        return "".join(self.said)


@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[Server]:
    """Start a server on a free port, in the folder's own home."""
    command = [sys.executable, "-c", COMMAND, "serve", "--port", "0", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=own(folder), text=True, **pipes) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def own(folder: Path) -> dict[str, str]:
    """Return the environment of a server in this folder."""
    return {**environment(folder), "LUTHIER_HOME": str(folder / "home"), "NO_PROXY": "*", "PATH": os.environ["PATH"]}
