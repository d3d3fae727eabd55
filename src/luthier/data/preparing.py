"""From sources to splits: the pass over the rows, near-duplicates, leaks, and who lands where."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luthier.core.artifacts import Base
from luthier.core.errors import DataError
from luthier.core.events import Emit, Event
from luthier.data.check import DataCheck, make_check
from luthier.data.duplicates import Groups, Shingler, join_equal, near_duplicates, own_text
from luthier.data.ledger import Survey
from luthier.data.opened import PARTS, Opened, open_data, unreadable, with_labels
from luthier.data.rows import RowIssue
from luthier.data.spec import DataSpec
from luthier.data.split import TEST, TRAIN, Rows, assign
from luthier.data.survey import MAX_UNREADABLE, Surveyor, learn_shingles
from luthier.examples.store import Split
from luthier.model.bitext import Bitext
from luthier.model.load import context_length, load_tokenizer, quiet
from luthier.model.reader import Reader
from luthier.model.template import Template

LEFT_OUT = -1
COMMON_PROMPT = 10
"""A prompt of more rows than this, and than a twentieth of all, is an instruction and does not bind rows together."""


@dataclass(frozen=True)
class Preparing:
    """Everything known before the splits are written."""

    opened: Opened
    survey: Survey
    near: Groups
    parts: np.ndarray
    """0, 1, 2 for train, validation, test, or -1 for a row left out as a leak; one entry a row put aside."""
    limit: int

    def check(self) -> DataCheck:
        """Return the check of the data."""
        return make_check(self.survey, self.near, self.parts)


def row_limit(spec: DataSpec, base: Base) -> int:
    """Return the most tokens a row may have."""
    context = context_length(base.folder)
    if spec.max_tokens == "auto":
        return context
    if spec.max_tokens > context:
        why = f"the context of {base.name} is {context:,} tokens"
        where = {"field": "data.max_tokens", "value": spec.max_tokens}
        raise DataError(
            "rows cannot be longer than the model's context", where=where, why=why, hint="leave it on `auto`"
        )
    return spec.max_tokens


def tokens_of(spec: DataSpec, base: Base) -> Template | Reader | Bitext:
    """Return what makes tokens of rows: the chat template, or the tokenizer alone for raw text or for two sides."""
    tokenizer = load_tokenizer(base.folder)
    if spec.render == "source":
        return Bitext(tokenizer)
    return Reader(tokenizer) if spec.render == "text" else Template(tokenizer)


def prepare(spec: DataSpec, base: Base, *, folder: Path, emit: Emit, seed: int) -> Preparing:
    """Read, tokenise, compare and split all rows; the rows wait in `folder`."""
    opened = with_labels(open_data(spec))
    note = f"the rows are read as {opened.because}"
    emit(Event(room="data", kind="note", message=note, data={"format": opened.format.name}))
    if opened.unused:
        columns = ", ".join(f"`{column}`" for column in opened.unused)
        emit(Event(room="data", kind="note", message=f"columns not used: {columns}"))
    limit = row_limit(spec, base)
    template = tokens_of(spec, base)
    shingler = learn_shingles(opened)
    with quiet():
        survey = Surveyor(opened, template, shingler=shingler, limit=limit, folder=folder, emit=emit).run()
    if spec.unreadable_rows == "stop" and survey.unreadable:
        raise unreadable(survey.unreadable, at_least=len(survey.unreadable) >= MAX_UNREADABLE)
    emit(Event(room="data", kind="note", message="comparing rows for near-duplicates"))
    near, parts = _split(opened, survey, shingler, seed)
    return Preparing(opened, survey, near, parts, limit)


def _split(opened: Opened, survey: Survey, shingler: Shingler, seed: int) -> tuple[Groups, np.ndarray]:
    rows = Split(survey.rows_file)
    signatures = survey.signatures()
    threshold = opened.spec.near_duplicates
    near = near_duplicates(signatures, lambda row: shingler.shingles(own_text(rows.example(row))), threshold)
    together = near.copy()
    for column in ("prompt", "passage"):
        join_equal(together, survey.ledger.column(column), max(COMMON_PROMPT, len(signatures) // 20))
    groups = together.roots()
    parts = survey.ledger.column("part").astype(np.int8)
    if opened.spec.repeats == "drop":
        _leave_out_leaks(survey, groups, parts)
    own = np.flatnonzero(parts == TRAIN)
    ledger = survey.ledger
    strata = ledger.column("label") if survey.answers.labels else np.zeros(len(parts), dtype=np.int64)
    split = opened.spec.split
    parts[own] = assign(
        Rows(groups[own], ledger.column("key")[own], strata[own]),
        validation=0 if opened.spec.validation_path else split.validation,
        test=0 if opened.spec.test_path else split.test,
        seed=seed,
    )
    return near, parts


def _leave_out_leaks(survey: Survey, groups: np.ndarray, parts: np.ndarray) -> None:
    """Leave out rows that a later part also has: test before validation before training."""
    for part in (TEST, TEST - 1):
        held: dict[int, int] = {int(groups[row]): int(row) for row in np.flatnonzero(parts == part)[::-1]}
        for row in np.flatnonzero((parts >= TRAIN) & (parts < part)):
            twin = held.get(int(groups[row]))
            if twin is not None:
                reason = f"says nearly the same as {survey.place(twin)}, a {PARTS[part]} row"
                file, number = survey.files[survey.ledger.source[row]], survey.ledger.row[row]
                survey.dropped.append(RowIssue(file, number, "leak", reason))
                parts[row] = LEFT_OUT
