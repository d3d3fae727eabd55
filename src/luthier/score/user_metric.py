"""User metrics: a program of the user's own that reads rows as JSON lines and writes one number per row.

It runs in a process of its own, so that its crash or endless loop is an error that names the row. It is not enclosed:
it is the user's own code and may do what the user may do.
"""

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from luthier.core.errors import LuthierError
from luthier.score.scores import Scores, mean_scores

CELL = Path(__file__).with_name("user_metric_cell.py")
LONGEST_LINE = 4096
LONGEST_WHY = 300
AHEAD = 1024
"""Numbers that a program may be ahead of being read."""
Line = bytes | None
"""A line that a program wrote, or None after the last."""


class UserMetricError(LuthierError):
    """A metric of the user's own does not give one number per row."""

    code = "bad_metric"
    exit_status = 9


@dataclass(frozen=True)
class MetricRow:
    """What a user metric is told about one row."""

    name: str
    """Where the row comes from."""
    prompt: str
    answer: str
    reference: str
    row: Mapping[str, Any]
    """Everything else that is known of the row."""

    def line(self) -> bytes:
        """Return the row as one JSON line."""
        told = {"prompt": self.prompt, "answer": self.answer, "reference": self.reference, "row": dict(self.row)}
        return (json.dumps(told) + "\n").encode()


@dataclass(frozen=True)
class Program:
    """How a user metric is started."""

    metric: str
    source: str
    """The file or the command, as errors name it."""
    words: Sequence[str]
    timeout_s: float
    """The longest wait for the next number."""


def python_program(metric: str, file: str, *, timeout_s: float) -> Program:
    """Return what calls `score(prompt, answer, reference, row)` of a Python file, row by row."""
    return Program(metric, file, (sys.executable, str(CELL), file), timeout_s)


def shell_program(metric: str, command: str, *, timeout_s: float) -> Program:
    """Return what runs a shell command."""
    return Program(metric, command, ("/bin/sh", "-c", command), timeout_s)


def user_scores(program: Program, rows: Sequence[MetricRow]) -> Scores:
    """Return what the program says of each row, a metric that is the mean of its rows."""
    with _running(program, rows) as told:
        values = [_number(program, row, told.next(row)) for row in rows]
        told.check_end()
    return mean_scores(program.metric, values)


@dataclass
class _Told:
    """What a program says, one line after the other."""

    program: Program
    child: "subprocess.Popen[bytes]"
    lines: "queue.Queue[Line]"
    errors: IO[bytes]

    def next(self, row: MetricRow | None) -> Line:
        try:
            return self.lines.get(timeout=self.program.timeout_s)
        except queue.Empty:
            doing = "no number" if row else "it wrote all numbers and does not end"
            why = f"{doing} within {self.program.timeout_s:g} s"
            hint = "give it longer with `timeout_s`, or look for an endless loop"
            raise _failed(self.program, row, why, hint=hint) from None

    def check_end(self) -> None:
        line = self.next(None)
        if line is not None:
            raise _failed(self.program, None, f"it wrote more numbers than there are rows: {_shown(line)}")
        status = self.status()
        if status:
            raise _failed(self.program, None, f"it ended with status {status}{self.last_words()}")

    def status(self) -> int:
        """Return how the program ended, once it says nothing more."""
        try:
            return self.child.wait(self.program.timeout_s)
        except subprocess.TimeoutExpired:
            return 0

    def last_words(self) -> str:
        """Return the last line that the program wrote to stderr."""
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().split("\n")[-1].strip()
        return f": {said[:LONGEST_WHY]}" if said else ""


@contextlib.contextmanager
def _running(program: Program, rows: Sequence[MetricRow]) -> Iterator[_Told]:
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(  # noqa: S603 (the user's own program)
            program.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        lines: queue.Queue[Line] = queue.Queue(AHEAD)
        threads = (
            threading.Thread(target=_feed, args=(child.stdin, [row.line() for row in rows]), daemon=True),
            threading.Thread(target=_hear, args=(child.stdout, lines), daemon=True),
        )
        for thread in threads:
            thread.start()
        told = _Told(program, child, lines, errors)
        try:
            yield told
        finally:
            _end(child)
            _let_go(threads[1], lines)


def _feed(pipe: IO[bytes], lines: Sequence[bytes]) -> None:
    # A program that does not want the rest of the rows is judged by the numbers it writes.
    with contextlib.suppress(OSError):
        for line in lines:
            pipe.write(line)
    with contextlib.suppress(OSError):
        pipe.close()


def _hear(pipe: IO[bytes], lines: "queue.Queue[Line]") -> None:
    for line in iter(lambda: pipe.readline(LONGEST_LINE), b""):
        lines.put(line)
    lines.put(None)


def _end(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _let_go(reader: threading.Thread, lines: "queue.Queue[Line]") -> None:
    """Free the reader where it waits to hand over one more line; one whose pipe a stray child holds is left behind."""
    for _ in range(AHEAD):
        if not reader.is_alive():
            return
        with contextlib.suppress(queue.Empty):
            lines.get(timeout=0.001)


def _number(program: Program, row: MetricRow, line: Line) -> float:
    if line is None:
        raise _failed(program, row, "it ended before this row")
    text = line.decode(errors="replace").strip()
    if text.startswith('{"error"'):
        raise _failed(program, row, json.loads(text)["error"])
    try:
        value = float(text)
    except ValueError:
        raise _failed(program, row, f"it wrote {_shown(line)}, which is no number") from None
    if not math.isfinite(value):
        raise _failed(program, row, f"it wrote {text}, which is not finite")
    return value


def _shown(line: bytes) -> str:
    return repr(line.decode(errors="replace").strip()[:80])


def _failed(program: Program, row: MetricRow | None, why: str, *, hint: str | None = None) -> UserMetricError:
    where = {"metric": program.metric, "source": program.source} | ({"row": row.name} if row else {})
    return UserMetricError("a metric of your own failed", where=where, why=why, hint=hint)
