"""A number from foreign Python, run behind walls."""

from collections.abc import Mapping
from typing import Any

from luthier.score.graders.graded import Found, GradingError, Help
from luthier.score.graders.spec import PythonCode


def run(spec: PythonCode, scope: Mapping[str, Any], help: Help) -> Found:
    """Return what the source's `grade(sample, item)` returns; raises GradingError, and IsolationError without walls."""
    verdict = help.run(spec.source, scope["sample"], scope["item"])
    if verdict.error is not None:
        raise GradingError(
            "python_grader_runtime_error", f"{spec.name} failed", details=_explained(spec, verdict.error)
        )
    if verdict.score is None:
        raise GradingError("python_grader_server_error", f"{spec.name} was stopped", details=verdict.stopped)
    return Found(verdict.score)


def _explained(spec: PythonCode, error: str) -> str:
    """Return the error, with a word on packages where one is missing that the hosted service's image may hold."""
    if spec.image_tag is None or "ModuleNotFoundError" not in error:
        return error
    return f"{error}(The image {spec.image_tag[:80]} is not here: packages are those installed beside Luthier.)"
