"""Preview: rows as the model will see them, with the trained tokens marked."""

import itertools

from luthier.core.artifacts import Base
from luthier.data.check import Found
from luthier.data.opened import encode_row, open_data, with_labels
from luthier.data.preparing import row_limit, tokens_of
from luthier.data.rows import RowIssue
from luthier.data.spec import DataSpec
from luthier.data.survey import limited_tokens
from luthier.examples.example import Example
from luthier.examples.store import Encoded
from luthier.model.bitext import Bitext
from luthier.model.load import quiet
from luthier.model.reader import Reader
from luthier.model.template import Template


class Piece(Found):
    """Neighbouring tokens that are all trained, or all not."""

    text: str
    """Their text, special tokens included."""
    target: bool
    """Whether they carry loss."""
    tokens: int
    """How many they are."""


class PreviewRow(Found):
    """One row as the model will see it."""

    file: str
    """Where it comes from."""
    row: int
    """Its number there."""
    pieces: tuple[Piece, ...]
    """Its tokens in order."""
    rejected: tuple[Piece, ...] = ()
    """Those of the rejected answer, after the same prompt; only in data of preferences."""
    others: tuple[tuple[Piece, ...], ...] = ()
    """The texts that it is compared with; only where vectors are trained."""
    tokens: int
    """How many tokens it has, with the longer answer, or the longest of its texts."""
    too_long: bool
    """Whether it has more than a row may have."""


def preview(spec: DataSpec, given: Base, *, rows: int = 3) -> list[PreviewRow | RowIssue]:
    """Return the first rows; one that cannot be read comes as its issue."""
    template = tokens_of(spec, given)
    limit = row_limit(spec, given)
    opened = with_labels(open_data(spec))
    with quiet():
        return [_row(read, template, limit) for read in itertools.islice(opened.examples("train"), rows)]


def _row(read: Example | RowIssue, template: Template | Reader | Bitext, limit: int) -> PreviewRow | RowIssue:
    if isinstance(read, RowIssue):
        return read
    encoded = encode_row(read, template.encode)
    if isinstance(encoded, RowIssue):
        return encoded
    tokens, other = max(len(answer.ids) for answer in encoded.answers), encoded.rejected
    return PreviewRow(
        file=read.file,
        row=read.row,
        pieces=_pieces(encoded, template),
        rejected=_pieces(other, template, start=other.prompt_tokens) if other else (),
        others=tuple(_pieces(text, template) for text in encoded.others),
        tokens=tokens,
        too_long=limited_tokens(encoded, template) > limit and not read.is_windowed,
    )


def _pieces(encoded: Encoded, template: Template | Reader | Bitext, *, start: int = 0) -> tuple[Piece, ...]:
    # Whole runs are decoded at once: one character may be several tokens.
    tokens = zip(encoded.ids[start:], encoded.targets[start:], strict=True)
    runs = itertools.groupby(tokens, key=lambda pair: pair[1])
    found = [(target, [token for token, _ in run]) for target, run in runs]
    return tuple(
        Piece(text=template.tokenizer.decode(ids, skip_special_tokens=False), target=target, tokens=len(ids))
        for target, ids in found
    )
