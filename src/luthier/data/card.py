"""The data card: where the rows came from, which are used, and every one that is not."""

import numpy as np

from luthier.core.artifacts import AnswerKind
from luthier.data.check import DataCheck, Found
from luthier.data.opened import PARTS
from luthier.data.preparing import Preparing

FILE = "card.json"


class SourceCard(Found):
    """One source."""

    name: str
    """As the recipe names it."""
    sha256: str
    """Hash of the file, or of the rows where they came from the hub."""


class DataCard(Found):
    """What `data/card.json` says."""

    sources: tuple[SourceCard, ...]
    """All files, in the order read."""
    format: str
    """The recognised format."""
    unused_columns: tuple[str, ...]
    """Columns that the format does not read."""
    seed: int
    """Seed of the split."""
    rows: dict[str, int]
    """Rows per split."""
    total_tokens: int
    """Tokens of the training split."""
    target_tokens: int
    """Tokens of the training split that carry loss."""
    longest: int
    """Tokens of the longest row, over all splits."""
    longest_answer: int
    """Tokens of the longest answer, over all splits."""
    limit: int
    """The most tokens a row may have."""
    answer_kind: AnswerKind
    """What the answers are."""
    labels: tuple[str, ...]
    """The closed set of answers, sorted."""
    check: DataCheck
    """What is in the rows and what is wrong with them; all rows cut or left out are listed here."""


def make_card(prepared: Preparing, *, seed: int) -> DataCard:
    """Draw up the card."""
    survey, parts = prepared.survey, prepared.parts
    tokens, longest, used = survey.ledger.column("tokens"), survey.ledger.column("longest"), parts >= 0
    sources = zip(survey.files, survey.hashes, strict=True)
    return DataCard(
        sources=tuple(SourceCard(name=name, sha256=sha256) for name, sha256 in sources),
        format=survey.format.name,
        unused_columns=tuple(prepared.opened.unused),
        seed=seed,
        rows={name: int(np.sum(parts == part)) for part, name in enumerate(PARTS)},
        total_tokens=int(tokens[parts == 0].sum()),
        target_tokens=int(survey.ledger.column("targets")[parts == 0].sum()),
        longest=int(longest[used].max(initial=0)),
        longest_answer=int(survey.ledger.column("answer_tokens")[used].max(initial=0)),
        limit=prepared.limit,
        answer_kind=survey.answers.kind,
        labels=survey.answers.named,
        check=prepared.check(),
    )
