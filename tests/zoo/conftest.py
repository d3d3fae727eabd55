"""The zoo's keeper, a watched process, and what it saw."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).with_name("hook") / "sitecustomize.py"
# What a Python may read wherever it runs: itself, its packages, this project's source, and the machine's own facts.
OWN = (
    *(sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), str(ROOT / "src"), str(ROOT / "tests")),
    *(
        "/proc/",
        "/sys/",
        "/dev/",
        "/etc/ld.so",
        "/usr/lib",
        "/usr/share/locale",
        "/etc/localtime",
        "/usr/share/zoneinfo",
    ),
)
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
NETWORK = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "webbrowser.open")


@dataclass
class Visit:
    """What a call said, cost and did."""

    said: Any
    refused: dict[str, str] | None
    seconds: float
    """Of computing, here and in children: other work on the machine is not the animal's."""
    wall_seconds: float
    growth_bytes: int
    events: list[list[str]]

    @property
    def text(self) -> str:
        return (self.refused or {}).get("text", "")

    def paths(self) -> list[str]:
        """Return the files opened, with relative ones and numbers of open files left out."""
        opened = [event[2].strip("'\"b") for event in self.events if event[0] == "open"]
        return [path for path in opened if path.startswith("/")]

    def outside(self, *allowed: Path) -> list[str]:
        """Return what was opened beside the allowed folders and what every Python reads."""
        inside = (*OWN, *map(str, allowed))
        return sorted({path for path in self.paths() if not path.startswith(inside)})

    def foreign_processes(self) -> list[list[str]]:
        """Return the processes started that are not this package's own children."""
        own = (f"'{sys.executable}', '-P', '-m', 'luthier.model.", f"'{sys.executable}', '-I'")
        started = [event for event in self.events if event[0] in PROCESSES]
        return [event for event in started if not any(words in " ".join(event) for words in own)]

    def connections(self) -> list[list[str]]:
        return [event for event in self.events if event[0] in NETWORK]


class Zoo:
    """Calls functions in the watched process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hook = folder / "hook"
        self.hook.mkdir(parents=True)
        shutil.copy(HOOK, self.hook)
        (self.hook / "events.txt").touch()
        self.cache = folder / "cache"
        self._process: subprocess.Popen[str] | None = None

    def environment(self) -> dict[str, str]:
        paths = os.pathsep.join((str(self.hook), str(ROOT)))
        private = {"LUTHIER_CACHE": str(self.cache), "HF_HOME": str(self.folder / "hub"), "TMPDIR": str(self.tmp())}
        return os.environ | private | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def tmp(self) -> Path:
        (self.folder / "tmp").mkdir(exist_ok=True)
        return self.folder / "tmp"

    def visit(self, name: str, /, **given: Any) -> Visit:
        """Call `tests.zoo.visits.<name>` there, and return what came of it."""
        process = self._running()
        log = self.hook / "events.txt"
        os.truncate(log, 0)
        call = name if ":" in name else f"tests.zoo.visits:{name}"
        process.stdin.write(json.dumps({"call": call, "given": given}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"the keeper died during {name}"
        events = [line.split("\t") for line in log.read_text().splitlines()]
        return Visit(events=events, **json.loads(answer))

    def close(self) -> None:
        if self._process:
            self._process.stdin.close()
            self._process.wait(30)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "tests.zoo.keeper"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(command, cwd=self.folder, env=self.environment(), text=True, **pipes)
            folder = self.folder / f"warm-{self._process.pid}"
            folder.mkdir()
            warm = self.visit("warm_up", folder=str(folder))
            assert warm.refused is None, warm.refused
        return self._process


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    found = Zoo(tmp_path_factory.mktemp("zoo"))
    yield found
    found.close()
