"""The process in which a python grader runs: it reads one request, puts up walls, grades, and writes one answer.

Started by `sandbox.py` as a fresh `python -I -S`; the standard library and `walls.py` are all it imports.
"""

import ast
import importlib.util
import json
import math
import os
import sys
import traceback
from numbers import Real
from pathlib import Path
from typing import Any

from luthier.score.graders import walls

READY = b"ready\n"
DETAILS = 4_000
"""Characters of a traceback that are told."""
SOURCE = "/tmp/grader.py"  # noqa: S108 (the empty folder in memory that only this process sees)


def main() -> None:
    """Be the first process of the new namespaces' parent; the child does the work and is killed with this one."""
    sys.path.pop()
    # Models answer beside it, and come first.
    os.nice(10)
    walls.leave()
    # The maps of users are written by our parent, who sends the request only then.
    os.write(1, READY)
    request = json.loads(sys.stdin.buffer.read())
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    try:
        _enclose(**request["walls"])
    except OSError as error:
        answer = {"walls": str(error)}
    else:
        answer = _check(request["source"]) if request["only_check"] else _grade(request)
    os.write(answers, json.dumps(answer).encode())
    os._exit(0)


def _enclose(libraries: list[str], packages: list[str], as_nobody: bool, limits: dict[str, int]) -> None:
    walls.build_root([*libraries, *packages], scratch_bytes=limits["file_bytes"])
    walls.set_limits(**limits)
    walls.drop_privileges(as_nobody=as_nobody)
    walls.filter_calls()
    sys.path.extend(packages)
    # Threads are refused, so the number crunchers must not want them.
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})


def _check(source: str) -> dict[str, Any]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if any(isinstance(node, ast.FunctionDef) and node.name == "grade" for node in ast.walk(tree)):
        return {"score": 0.0}
    return {"error": "the source has no function named grade"}


def _grade(request: dict[str, Any]) -> dict[str, Any]:
    try:
        Path(SOURCE).write_text(request["source"], encoding="utf-8")
        spec = importlib.util.spec_from_file_location("grader", SOURCE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not callable(getattr(module, "grade", None)):
            return {"error": "the source has no function named grade"}
        score = module.grade(request["sample"], request["item"])
        if not isinstance(score, Real) or not math.isfinite(score):
            return {"error": f"grade must return a finite number, not {score!r:.100} ({type(score).__name__})"}
        return {"score": float(score)}
    except BaseException as error:  # noqa: BLE001 (foreign code may raise anything; what it was is the answer)
        return {"error": _told(error)}


def _told(error: BaseException) -> str:
    """Return the traceback without our own frame."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, frames))[-DETAILS:]
