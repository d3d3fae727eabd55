"""Start the calibration in a process of its own, so that its memory is its own, and read what it found."""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import luthier.core.errors
from luthier.advise.estimate.measured import Measured
from luthier.advise.estimate.work import Work
from luthier.core.artifacts import Prepared
from luthier.core.errors import LuthierError, ModelError, ResourceError
from luthier.core.events import Emit, Event
from luthier.jobs.estimate.child import ASKED, FOUND
from luthier.recipe import Plan

MODULE = "luthier.jobs.estimate.child"
LONGEST_S = 3600.0
WORDS = {
    "steps": "timing micro-batches of this plan",
    "evaluation": "evaluating a few rows",
    "export": "exporting once",
}
MOST_SAMPLED, FEWEST_SAMPLED = 48, 4
"""Rows of the larger of the two evaluations."""


def measure(plan: Plan, prepared: Prepared, work: Work, micro_batches: Sequence[Sequence[int]], emit: Emit) -> Measured:
    """Return what a little of the plan took on this machine."""
    with tempfile.TemporaryDirectory(prefix="luthier-estimate-") as name:
        folder = Path(name)
        asked = {
            "plan": plan.model_dump(mode="json"),
            "prepared": prepared.model_dump(mode="json"),
            "micro_batches": [list(rows) for rows in micro_batches],
            "sample_rows": sample_rows(work.test_rows),
            "started_s": time.time(),
        }
        (folder / ASKED).write_text(json.dumps(asked))
        _run(folder, emit)
        return _found(json.loads((folder / FOUND).read_text()))


def sample_rows(rows: int) -> list[int]:
    """Return of how many rows the two small evaluations are."""
    if not rows:
        return []
    larger = min(rows, MOST_SAMPLED, max(FEWEST_SAMPLED, rows // 4))
    return sorted({max(1, larger // 4), larger})


def _run(folder: Path, emit: Emit) -> None:
    from luthier.model.child import run_child

    def heard(part: str) -> None:
        if part in WORDS:
            emit(Event(room="plan", kind="note", message=WORDS[part]))

    try:
        run_child(MODULE, [str(folder)], what="the trial of this plan ended", seconds=LONGEST_S, on_line=heard)
    except ModelError as error:
        raise ResourceError(
            "a few steps of this plan could not be done here",
            where={"field": "train.micro_batch_tokens"},
            why=error.why,
            hint="set it lower, close other programs, or take a smaller base model",
        ) from error


def _found(found: dict[str, Any]) -> Measured:
    if "error" not in found:
        return Measured.model_validate(found)
    told = dict(found["error"])
    kind = getattr(luthier.core.errors, str(told.pop("kind")), LuthierError)
    what = str(told.pop("what"))
    raise kind(what, **told)
