"""Before a job is queued its files are read to the end; what is wrong is told with example and reason."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luthier.core.errors import DataError
from luthier.data.formats.chat import Chat
from luthier.data.formats.preference import Preference
from luthier.data.formats.prompt_completion import PromptCompletion
from luthier.data.rows import RawRow, RowError, RowIssue, Value
from luthier.data.sources.jsonl import read_jsonl
from luthier.jobs.service.records import JobError, JobRecord
from luthier.jobs.service.tuning import TRAINING, VALIDATION

LEAST_EXAMPLES = 10
SHOWN = 10
"""Problems named at most."""
MESSAGE = re.compile(r"(?:/input)?/(messages|prompt|completion)/(\d+)(.*)")
NO_JSON = ("not_json", "too_deep", "huge_number", "not_finite", "lone_surrogate", "duplicate_key", "not_utf8")
Part = Literal["training", "validation"]


@dataclass(frozen=True)
class Shape:
    """A kind of training file."""

    name: str
    """What the hosted service calls it."""
    method: str
    """The method that reads it."""
    keys: frozenset[str]
    """All keys an example may have."""
    read: Callable[[Value], object]
    """Raises RowError for an example that does not fit."""


CHAT = Shape(
    "fine-tune-chat", "supervised", frozenset({"messages", "tools", "parallel_tool_calls", "functions"}), Chat().read
)
PAIRS = {
    pair: Shape("fine-tune-preference", "dpo", frozenset({"input", *pair}), Preference(*pair).read)
    for pair in (("preferred_output", "non_preferred_output"), ("preferred_completion", "non_preferred_completion"))
}
COMPLETIONS = Shape("fine-tune-completions", "supervised", frozenset({"prompt", "completion"}), PromptCompletion().read)


@dataclass(frozen=True)
class Problem:
    """One example that cannot be used."""

    text: str
    is_extra_key: bool = False


class StoppedError(Exception):
    """The server ends; the files are read again when it is back."""


def examine(job: JobRecord, folder: Path, stop: threading.Event) -> JobError | None:
    """Read a job's files; return why the job cannot be done, or None."""
    error = _examine(job, "training", folder / TRAINING, stop)
    if error is None and job.validation_file:
        error = _examine(job, "validation", folder / VALIDATION, stop)
    return error


def _examine(job: JobRecord, part: Part, path: Path, stop: threading.Event) -> JobError | None:
    reading = _Reading(job, part)
    try:
        for row in _watched(path, stop):
            reading.take(row)
            if reading.is_over:
                break
    except DataError as error:
        return _error(part, f"invalid_{part}_file", _sentence(part) + f"{error.what}: {error.why}")
    return reading.verdict()


class _Reading:
    """What was found in one file so far."""

    def __init__(self, job: JobRecord, part: Part) -> None:
        self.job = job
        self.part = part
        self.shape: Shape | None = None
        self.count = 0
        self.problems: list[Problem] = []

    @property
    def is_foreign(self) -> bool:
        """Whether the file is for another method."""
        return self.shape is not None and self.shape.method != self.job.method

    @property
    def is_over(self) -> bool:
        """Whether more rows would change nothing."""
        return self.is_foreign or len(self.problems) >= SHOWN

    def take(self, row: RawRow | RowIssue) -> None:
        """Look at the next example."""
        self.count += 1
        if self.shape is None and isinstance(row, RawRow):
            self.shape = shape_of(row.value)
        problem = problem_of(row, self.shape, self.count)
        self.problems += [problem] if problem else []

    def verdict(self) -> JobError | None:
        """Return why the job cannot be done, or None."""
        if self.is_foreign and self.shape is not None:
            return _wrong_method(self.job, self.part, self.shape)
        if self.problems:
            return _problems(self.part, self.problems)
        if self.part == "training" and self.count < LEAST_EXAMPLES:
            what = f"Training file has {self.count} example(s), but must have at least {LEAST_EXAMPLES} examples"
            return _error(self.part, "invalid_n_examples", what)
        return None if self.count else _error(self.part, "invalid_n_examples", "Validation file has 0 example(s)")


def _watched(path: Path, stop: threading.Event) -> Iterator[RawRow | RowIssue]:
    for row in read_jsonl(path, path.name):
        if stop.is_set():
            raise StoppedError
        yield row


def shape_of(value: Value) -> Shape | None:
    """Return what kind of file an example comes from, or None for none that is known."""
    keys = set(value) if isinstance(value, dict) else set()
    if "messages" in keys:
        return CHAT
    for pair, shape in PAIRS.items():
        if keys & set(pair):
            return shape
    return COMPLETIONS if "prompt" in keys or "completion" in keys else None


def problem_of(row: RawRow | RowIssue, shape: Shape | None, number: int) -> Problem | None:
    """Return what is wrong with an example, in the hosted service's words, or None."""
    if isinstance(row, RowIssue):
        if row.code in NO_JSON:
            return Problem(f"Example {number} cannot be parsed. Error: line contains invalid json: {row.reason}")
        return Problem(f"Example {number}: {row.reason}")
    if not isinstance(row.value, dict):
        return Problem(f"Example {number} is not a dictionary")
    shape = shape or shape_of(row.value)
    if shape is None:
        return Problem(f"Example {number} has none of 'messages', 'prompt' and 'preferred_output'")
    extra = sorted(set(row.value) - shape.keys)
    if extra:
        return Problem(f'Example {number} contains an extra "{extra[0][:80]}".', is_extra_key=True)
    try:
        shape.read(row.value)
    except RowError as error:
        return Problem(_placed(error, row.value, number))
    return None


def _placed(error: RowError, value: dict[str, object], number: int) -> str:
    match = MESSAGE.fullmatch(error.pointer)
    if match is None:
        return f"Example {number}: {error.reason}" + (f" (at {error.pointer})" if error.pointer else "")
    place = f"Example {number}, message {int(match[2]) + 1}"
    if match[3] == "/role" and error.code == "bad_role" and _has_no_role(value, match[1], int(match[2])):
        return f"{place} Discriminator 'role' is missing in value"
    return f"{place}: {error.reason}"


def _has_no_role(value: dict[str, object], column: str, index: int) -> bool:
    inner = value.get("input")
    messages = value.get(column) or (inner.get(column) if isinstance(inner, dict) else None)
    return isinstance(messages, list) and "role" not in messages[index]


def _problems(part: Part, problems: list[Problem]) -> JobError:
    first, *others = problems
    text = " ".join(problem.text for problem in [first, *others])
    if first.is_extra_key:
        what = f"The job failed due to a file format error in the {part} file. Invalid file format. "
        return _error(part, "invalid_file_format", what + text)
    return _error(part, f"invalid_{part}_file", _sentence(part) + text)


def _sentence(part: Part) -> str:
    return f"The job failed due to an invalid {part} file. Invalid file format. "


def _wrong_method(job: JobRecord, part: Part, shape: Shape) -> JobError:
    file = job.training_file if part == "training" else job.validation_file
    what = (
        f"The job failed due to an invalid {part} file. Input file {file} is in the {shape.name} format, but the "
        f"specified fine-tuning job is not using '{shape.method}' fine-tuning (provided method={job.method})."
    )
    return _error(part, f"invalid_{part}_file", what)


def _error(part: Part, code: str, message: str) -> JobError:
    return JobError(code=code, message=message, param=f"{part}_file")
