"""Contest: the rows that two systems answered, in one drawn order for all judges, with sides that hide who is who."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from luthier.core.artifacts import Report
from luthier.core.errors import CheckpointError, DataError, RecipeError
from luthier.core.runfolder import RunFolder
from luthier.evaluate.conclusion import LABEL_SCORED, TUNED, best_baseline
from luthier.evaluate.sample import Sample
from luthier.jobs.prepare import saved_plan
from luthier.score.names import FROM_LOSSES

Side = Literal["first", "second"]


@dataclass(frozen=True)
class Pair:
    """One row with the answers of two systems."""

    row: str
    prompt: str
    first: str
    """What the first system answered."""
    second: str
    """What the second one answered."""

    @cached_property
    def key(self) -> str:
        """Names this pair: an answer that changed makes another pair, which is judged anew."""
        text = json.dumps([self.row, self.prompt, self.first, self.second])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def left(self, seed: int, judge: str) -> Side:
        """Return whose answer stands on the left: a coin toss that is the same whenever the judge comes back."""
        coin = hashlib.sha256(f"{seed} {judge} {self.key}".encode()).digest()[0]
        return "first" if coin % 2 else "second"


@dataclass(frozen=True)
class Contest:
    """Two systems, what they answered, and where judgments are kept."""

    first: str
    second: str
    pairs: list[Pair]
    """Only pairs whose answers differ, in the order in which every judge meets them."""
    identical: int
    """Rows on which both said the same: nothing to judge."""
    seed: int
    folder: Path


def open_contest(run: RunFolder, other: RunFolder | None = None) -> Contest:
    """Set the tuned model against the run's best baseline, or against the tuned model of another run."""
    seed, samples = saved_plan(run).seed, _samples(run)
    if other is None:
        rival = _rival(run)
        names, found, folder = (TUNED, rival), _of_one_run(samples, rival), run.room("judge")
    else:
        names = _names(run, other)
        found, folder = _of_two_runs(samples, _samples(other)), run.room("judge") / other.path.absolute().name
    if not found:
        hint = "evaluate both runs on the same rows, with the same seed and test data" if other else None
        raise DataError("there is no row that both answered", where={"run": run.path}, hint=hint)
    differing = [pair for pair in found if pair.first.strip() != pair.second.strip()]
    order = np.random.default_rng(seed).permutation(len(differing))
    pairs = [differing[place] for place in order.tolist()]
    return Contest(*names, pairs, len(found) - len(differing), seed, folder)


def _names(run: RunFolder, other: RunFolder) -> tuple[str, str]:
    if run.path.resolve() == other.path.resolve():
        raise RecipeError("a run cannot be judged against itself", where={"run": run.path}, hint="name another run")
    first, second = run.path.absolute(), other.path.absolute()
    return (first.name, second.name) if first.name != second.name else (str(first), str(second))


def _rival(run: RunFolder) -> str:
    report = Report.read(run.room("evaluate"))
    if report is None:
        raise _not_evaluated(run)
    if report.primary_metric in FROM_LOSSES:
        why = f"its rows are measured by {report.primary_metric}, from losses"
        raise DataError("this run has no written answers to judge", where={"run": run.path}, why=why)
    # A system that only picks a label writes no answer of its own.
    writing = [system for system in report.systems if not system.name.endswith(LABEL_SCORED)]
    best = best_baseline(writing, report.primary_metric)
    if best is None:
        hint = "`luthier evaluate RUN --set evaluate.baselines=[zero-shot]`, or name a second run"
        raise DataError("this run has no baseline to judge against", where={"run": run.path}, hint=hint)
    return best.name


def _samples(run: RunFolder) -> list[Sample]:
    path = run.room("evaluate") / "samples.jsonl"
    try:
        return [Sample.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        raise _not_evaluated(run) from None
    except (ValidationError, ValueError) as error:
        hint = "measure again: delete the run's `evaluate` folder, then `luthier evaluate RUN`"
        raise CheckpointError("these answers cannot be read", where={"file": path}, hint=hint) from error


def _not_evaluated(run: RunFolder) -> CheckpointError:
    hint = "let it answer the test rows: `luthier evaluate RUN`"
    return CheckpointError("this run has not been evaluated", where={"run": run.path}, hint=hint)


def _of_one_run(samples: list[Sample], rival: str) -> list[Pair]:
    return [
        Pair(sample.row, sample.prompt, sample.answers[TUNED].text, sample.answers[rival].text)
        for sample in samples
        if {TUNED, rival} <= sample.answers.keys()
    ]


def _of_two_runs(ours: list[Sample], theirs: list[Sample]) -> list[Pair]:
    # Runs may word their prompts differently; a row is the same where its place and its right answer are.
    answers: Mapping[tuple[str, str], str] = {
        (sample.row, sample.reference): sample.answers[TUNED].text for sample in theirs if TUNED in sample.answers
    }
    return [
        Pair(sample.row, sample.prompt, sample.answers[TUNED].text, answers[sample.row, sample.reference])
        for sample in ours
        if TUNED in sample.answers and (sample.row, sample.reference) in answers
    ]
