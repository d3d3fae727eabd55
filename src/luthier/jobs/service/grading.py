"""Grading for the service: graders checked and run, with models served here and foreign Python behind walls."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from luthier.jobs.service.asking import answer, vectors
from luthier.jobs.service.catalogue import Catalogue
from luthier.jobs.service.inference import Inference
from luthier.jobs.service.refusal import Refusal
from luthier.score.graders.grade import check, grade, parts_of, sample_of
from luthier.score.graders.graded import Graded, GradingError, Question, Reply
from luthier.score.graders.sandbox import (
    IsolationError,
    Limits,
    Verdict,
    check_python,
    end_all,
    ensure_isolated,
    run_python,
)
from luthier.score.graders.spec import AnyGrader, LabelModel, PythonCode, ScoreModel

CODE_AT_ONCE = 2
"""Python graders that run at the same time; each may take a core and 2 GB."""
PATIENCE_S = 5.0
"""How long a request waits for its turn to run Python; a run of an eval waits as long as it takes."""
BUSY_TRIES = 100
"""How often a run of an eval asks again where the line is full."""
Result = TypeVar("Result")


class Grading:
    """Checks and runs graders."""

    def __init__(self, folder: Path, catalogue: Catalogue, inference: Inference, limits: Limits | None = None) -> None:
        """Take the folder that foreign code must never reach, and what such code may take."""
        self.catalogue = catalogue
        self.inference = inference
        self.stopping = threading.Event()
        self._folder = folder
        self._limits = limits or Limits()
        self._slots = threading.BoundedSemaphore(CODE_AT_ONCE)

    def validate(self, grader: AnyGrader, owner: str, *, param: str = "grader") -> None:
        """Raise a Refusal where the grader could not run: its formula, variables, model or source."""
        try:
            check(grader)
        except GradingError as error:
            raise Refusal(f"Invalid grader '{grader.name}': {error.what}.", code=error.flag, param=param) from error
        for part in parts_of(grader).values():
            if isinstance(part, ScoreModel | LabelModel):
                self.catalogue.resolve(part.model, owner)
            if isinstance(part, PythonCode):
                self._check_python(part, param)

    def run(self, grader: AnyGrader, model_sample: str, item: Mapping[str, Any], owner: str) -> Graded:
        """Grade one answer; raises a Refusal where the grader could not run."""
        self.validate(grader, owner)
        try:
            return grade(grader, sample_of(model_sample), item, House(self, owner, is_patient=False))
        except IsolationError as error:
            raise _no_isolation(error, "grader") from error

    def stop(self) -> None:
        """End what is under way."""
        self.stopping.set()
        end_all()

    @contextmanager
    def walls(self, *, patience_s: float = PATIENCE_S) -> Iterator[Limits]:
        """Take a turn to run foreign Python; raises IsolationError, and a Refusal where too much of it runs already."""
        ensure_isolated(self._folder)
        if not self._slots.acquire(timeout=patience_s) or self.stopping.is_set():
            message = "Rate limit reached: other python graders are running. Please try again in 5s."
            raise Refusal(message, status=429, kind="requests", code="rate_limit_exceeded", retry_after_s=5)
        try:
            yield self._limits
        finally:
            self._slots.release()

    def _check_python(self, grader: PythonCode, param: str) -> None:
        try:
            with self.walls() as limits:
                verdict = check_python(grader.source, limits=limits)
        except IsolationError as error:
            raise _no_isolation(error, param) from error
        if verdict.score is None:
            why = verdict.error or f"it was ended ({verdict.stopped})"
            raise Refusal(
                f"Invalid grader '{grader.name}': {why}", code="invalid_grader_source", param=f"{param}.source"
            )


def _no_isolation(error: IsolationError, param: str) -> Refusal:
    return Refusal(f"{error.what} ({error.why}): {error.hint}.", code="python_grader_unavailable", param=param)


class House:
    """What graders need from the service, in the name of one project."""

    def __init__(self, grading: Grading, owner: str, *, is_patient: bool) -> None:
        self._grading = grading
        self._owner = owner
        self._is_patient = is_patient
        self.replies: list[Reply] = []
        """All that models said so far."""

    def ask(self, question: Question) -> Reply:
        """Return a served model's answer; raises a Refusal."""
        reply = self._when_free(lambda: asyncio.run(answer(self._grading.inference, question, self._owner)))
        self.replies.append(reply)
        return reply

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector per text, by the first base on offer; raises a Refusal."""
        base = next(iter(self._grading.catalogue.settings.bases))
        return self._when_free(lambda: asyncio.run(vectors(self._grading.inference, base, texts, self._owner)))

    def run(self, source: str, sample: Mapping[str, Any], item: Mapping[str, Any]) -> Verdict:
        """Return what foreign Python says, behind walls; raises IsolationError, and a Refusal where all are busy."""
        with self._grading.walls(patience_s=3600.0 if self._is_patient else PATIENCE_S) as limits:
            return run_python(source, sample, item, limits=limits)

    def _when_free(self, work: Callable[[], Result]) -> Result:
        for _ in range(BUSY_TRIES if self._is_patient else 0):
            try:
                return work()
            except Refusal as refused:
                if refused.retry_after_s is None or self._grading.stopping.wait(refused.retry_after_s):
                    raise
        return work()
