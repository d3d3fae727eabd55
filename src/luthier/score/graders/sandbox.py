"""Foreign Python, run behind walls or not at all: a fresh interpreter without network, files, secrets or company."""

import contextlib
import functools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import LuthierError
from luthier.score.graders.cell import READY
from luthier.score.graders.walls import NOBODY

START = "import sys; sys.path.append(sys.argv[1]); from luthier.score.graders.cell import main; main()"
ANSWER_BYTES = 64_000
"""What a grader may say at most; its prints go nowhere."""
START_S = 20.0
"""For the interpreter to start on a busy machine; the grader's own time begins after it."""


class IsolationError(LuthierError):
    """This machine cannot put walls around foreign code, so it does not run."""

    code = "no_isolation"
    exit_status = 6
    usual_hint = "python graders need Linux with user namespaces and seccomp; use another grader type here"


@dataclass(frozen=True)
class Limits:
    """What one run of a python grader may take."""

    seconds: int = 120
    """Of wall clock, and of processor time."""
    memory_bytes: int = 2_000_000_000
    file_bytes: int = 16_000_000
    """Of one file, and of its whole folder, which is kept in memory."""


@dataclass(frozen=True)
class Verdict:
    """What came of a run: one of the three is set."""

    score: float | None = None
    error: str | None = None
    """What the grader's own code did wrong, with its traceback."""
    stopped: str | None = None
    """Why it was ended from outside: "timeout", "killed" or "too much output"."""


def run_python(source: str, sample: Mapping[str, Any], item: Mapping[str, Any], *, limits: Limits) -> Verdict:
    """Return what `grade(sample, item)` of the source says; raises IsolationError where it cannot be enclosed."""
    return _ask({"source": source, "sample": sample, "item": item, "only_check": False}, limits)


def check_python(source: str, *, limits: Limits) -> Verdict:
    """Return whether the source parses and has a function `grade`; it is not run, yet parsed behind the same walls."""
    return _ask({"source": source, "only_check": True}, limits)


@functools.cache
def ensure_isolated(folder: Path) -> None:
    """Try once, for real, to get out of the walls and into a folder of secrets; raises IsolationError if it works."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        tempfile.NamedTemporaryFile("w", dir=folder, prefix=".canary-") as canary,
    ):
        canary.write("secret")
        canary.flush()
        # Readable by anybody: the walls must hide it, not its mode.
        Path(canary.name).chmod(0o644)
        item = {"port": listener.getsockname()[1], "canary": canary.name, "outside": f"{canary.name}-2"}
        verdict = run_python(PROBE, {}, item, limits=Limits(seconds=10, memory_bytes=500_000_000, file_bytes=1_000_000))
    if verdict.score != 0.0:
        raise _no_walls(verdict.error or verdict.stopped or f"{verdict.score:.0f} of 5 ways out were open")


PROBE = """
import os, socket

def leads_out(way):
    try:
        return way() is not False
    except OSError:
        return False

def read(path):
    with open(path) as file:
        return file.read()

def write(path):
    with open(path, "w") as file:
        file.write("out")

def grade(sample, item):
    ways = (
        lambda: socket.create_connection(("127.0.0.1", item["port"]), 2),
        lambda: read(item["canary"]),
        lambda: write(item["outside"]),
        lambda: os.fork() or os._exit(0),
        lambda: os.execv("/bin/true", ["true"]),
    )
    return sum(leads_out(way) for way in ways)
"""


def _ask(request: dict[str, Any], limits: Limits) -> Verdict:
    if sys.platform != "linux":
        raise _no_walls(f"this is {sys.platform}")
    sources = str(Path(__file__).parents[3])
    command = [sys.executable, "-I", "-S", "-B", "-c", START, sources]
    # This Python and our own module; everything foreign goes through the pipe, after the walls are up.
    child = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
    _running.add(child)
    try:
        with _killed_after(START_S, child):
            is_ready = child.stdout is not None and child.stdout.readline() == READY
        if not is_ready:
            raise _no_walls("the kernel gives no namespaces")
        with _killed_after(limits.seconds, child) as late:
            answer = _talk(child, json.dumps(request | {"walls": _walls(limits)}).encode())
    finally:
        _running.discard(child)
        _kill(child)
        # What it did not read is thrown away.
        with contextlib.suppress(BrokenPipeError), child:
            pass
    return Verdict(stopped="timeout") if late.is_set() else _verdict(answer)


def end_all() -> None:
    """Kill the graders that run now; who waits for them hears that they were killed."""
    for child in list(_running):
        _kill(child)


_running: "set[subprocess.Popen[bytes]]" = set()


def _no_walls(why: str) -> IsolationError:
    return IsolationError("python graders cannot be isolated on this machine", why=why)


@contextlib.contextmanager
def _killed_after(seconds: float, child: "subprocess.Popen[bytes]") -> Iterator[threading.Event]:
    """Kill the child if the block takes longer, and say so."""
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(child)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()


def _kill(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _talk(child: "subprocess.Popen[bytes]", request: bytes) -> bytes:
    """Give the child its users and its request, and return what it says; empty where it ended before."""
    try:
        _map_users(child.pid)
    except OSError as error:
        raise _no_walls(str(error)) from error
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(request)
        child.stdin.close()
    return child.stdout.read(ANSWER_BYTES + 1)


def _map_users(process: int) -> None:
    """Let the child be this user, and nobody else; where this is root, it then becomes nobody."""
    users, groups, extra = os.geteuid(), os.getegid(), ""
    if users == 0:
        extra = f"{NOBODY} {NOBODY} 1\n"
    else:
        Path(f"/proc/{process}/setgroups").write_text("deny")
    Path(f"/proc/{process}/uid_map").write_text(f"{users} {users} 1\n{extra}")
    Path(f"/proc/{process}/gid_map").write_text(f"{groups} {groups} 1\n{extra}")


def _walls(limits: Limits) -> dict[str, Any]:
    paths = sysconfig.get_paths()
    libraries = {
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        f"{sys.base_prefix}/lib",
        paths["stdlib"],
        paths["platstdlib"],
    }
    return {
        "libraries": _outermost(libraries | {paths["stdlib"], paths["platstdlib"]}),
        "packages": _outermost({paths["purelib"], paths["platlib"]}),
        "as_nobody": os.geteuid() == 0,
        "limits": {
            # The clock ends it first; this is for a service that was killed meanwhile.
            "cpu_s": limits.seconds + 2,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
        },
    }


def _outermost(folders: set[str]) -> list[str]:
    """Return the folders that exist and lie in no other of them."""
    there = sorted(folder for folder in folders if Path(folder).is_dir())
    return [one for one in there if not any(one != other and Path(one).is_relative_to(other) for other in there)]


def _verdict(answer: bytes) -> Verdict:
    if len(answer) > ANSWER_BYTES:
        return Verdict(stopped="too much output")
    try:
        told = json.loads(answer)
        if "walls" in told:
            raise _no_walls(str(told["walls"]))
        if "error" in told:
            # Foreign texts may hold half a character, which no reply could carry.
            return Verdict(error=str(told["error"]).encode(errors="backslashreplace").decode())
        score = float(told["score"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return Verdict(stopped="killed")
    return Verdict(score=score) if math.isfinite(score) else Verdict(stopped="killed")
