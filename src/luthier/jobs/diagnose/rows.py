"""Evidence from the data: its card, and the splits compared with each other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from luthier.advise.diagnose.evidence import Data, Overlap, Splits
from luthier.core.artifacts import HEAD_KINDS
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.jobs.diagnose.folder import NO_BASE, NO_DATA, Opened, place

HELD_OUT: tuple[Literal["validation", "test"], ...] = ("validation", "test")
LAST_TOKENS = 3
"""Tokens in which the end of turn is looked for: some templates write a line break after it."""
NOT_WORDS = re.compile(r"[\W_]+")


def data_of(opened: Opened) -> Data | str:
    """Return what the data card says, or why there is none."""
    from luthier.data.card import FILE, DataCard
    from luthier.model.checks import context_length

    path = opened.run.room("data") / FILE
    if opened.prepared is None or not path.exists():
        return NO_DATA
    card = DataCard.model_validate_json(path.read_text(encoding="utf-8"))
    check = card.check
    left_out = {code: _places(check.dropped, code) for code in ("too_long", "no_target")}
    return Data(
        rows=check.rows,
        kind=card.answer_kind,
        limit=card.limit,
        context=context_length(opened.base.folder) if opened.base else card.limit,
        longest=max((bar.high for bar in check.lengths), default=0),
        cut=tuple(place(issue.file, issue.row) for issue in check.cut),
        too_long=left_out["too_long"],
        no_target=left_out["no_target"],
        only_last=check.only_last,
        target_tokens=card.target_tokens,
        total_tokens=card.total_tokens,
        conflicts=tuple(tuple(_short(row) for row in group) for group in check.conflicts.rows),
        conflict_groups=check.conflicts.count,
    )


def _places(issues: tuple[object, ...], code: str) -> tuple[str, ...]:
    return tuple(place(issue.file, issue.row) for issue in issues if issue.code == code)  # type: ignore[attr-defined]


def _short(name: str) -> str:
    file, _, row = name.rpartition(":")
    return f"{Path(file).name}:{row}"


def splits_of(opened: Opened) -> Splits | str:
    """Return which held-out rows were trained too, and whether training rows end; or why that cannot be said."""
    if opened.prepared is None:
        return NO_DATA
    if opened.base is None:
        return NO_BASE
    from luthier.model.bitext import words_of

    train = Split(opened.prepared.split("train"))
    held_out = [row for part in HELD_OUT for row in Split(opened.prepared.split(part)).examples()]
    if not held_out:
        return "no rows are held out"
    # What a head judges is no answer, and has no end to learn.
    judged = opened.prepared.answer_kind in HEAD_KINDS
    stops = frozenset[int]() if judged else words_of(opened.base.folder).stop_ids
    known = {_said(row): place(row.file, row.row) for row in train.examples()}
    same = [(row, known[said]) for row in held_out if (said := _said(row)) in known]
    ends = len(train) if judged else sum(_ends(train.encoded(i), stops) for i in range(len(train)))
    return Splits(
        held_out=len(held_out),
        overlaps=tuple(Overlap(place(row.file, row.row), trained) for row, trained in same),
        ends_share=ends / max(len(train), 1),
    )


def _said(row: Example) -> str:
    """Return what a row says, without case, spaces and punctuation; the text itself where there is nothing else."""
    text = "\n".join(_parts(row))
    return NOT_WORDS.sub(" ", text.casefold()).strip() or text


def _parts(row: Example) -> Iterator[str]:
    yield from (segment.text for segment in row.segments)
    yield from (message.content for message in row.messages if message.role not in ("system", "developer"))
    yield from (str(call) for message in row.messages for call in message.tool_calls)


def _ends(row: Encoded, stops: frozenset[int]) -> bool:
    last = zip(row.ids[-LAST_TOKENS:], row.targets[-LAST_TOKENS:], strict=True)
    return any(target and token in stops for token, target in last)
