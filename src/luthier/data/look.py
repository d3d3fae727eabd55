"""A quick look at the data: what a plan is made from, without a split."""

from luthier.core.artifacts import AnswerKind
from luthier.data.answers import Answers
from luthier.data.check import Found
from luthier.data.formats.labelled import Labelled
from luthier.data.opened import PARTS, Encode, encode_row, open_data, with_labels
from luthier.data.spec import DataSpec
from luthier.examples.example import Example
from luthier.examples.store import Encoded

COUNTED_ROWS = 200_000
"""Rows of each part counted at most; of larger sets a lower bound is known."""
ENCODED_ROWS = 2000
"""Rows whose tokens are counted at most."""


class Look(Found):
    """What the first rows show."""

    format: str
    """The recognised format."""
    rows: dict[str, int]
    """Readable rows by part, as far as looked at; `validation` and `test` only where they have files of their own."""
    complete: bool
    """Whether all rows were looked at, and their tokens counted."""
    answer_kind: AnswerKind
    """What the answers are."""
    labels: tuple[str, ...]
    """The closed set of answers, sorted; empty where answers are open."""
    mean_tokens: float | None = None
    """Tokens of a row on average, of a pair with both answers; None without a tokenizer."""
    longest_tokens: int | None = None
    """Tokens of the longest row, of a pair with one answer."""
    longest_answer_tokens: int | None = None
    """Tokens of the longest answer, end-of-turn included."""


def look(spec: DataSpec, *, limit: int = COUNTED_ROWS, encode: Encode | None = None) -> Look:
    """Read at most `limit` rows of each part, one at a time; `encode` (a Template's) counts the first ones' tokens."""
    opened = with_labels(open_data(spec))
    rows, answers, tokens, complete = dict.fromkeys(PARTS, 0), Answers(), _Tokens(encode), True
    for part in PARTS:
        for number, row in enumerate(opened.examples(part)):
            if number == limit:
                complete = False
                break
            if isinstance(row, Example):
                rows[part] += 1
                answers.add(row)
                tokens.add(row)
    labels = opened.format.labels if isinstance(opened.format, Labelled) else answers.named
    return Look(
        format=opened.format.name,
        rows=rows,
        complete=complete and tokens.complete,
        answer_kind=answers.kind,
        labels=tuple(sorted(labels)),
        mean_tokens=tokens.total / tokens.rows if tokens.rows else None,
        longest_tokens=tokens.longest or None,
        longest_answer_tokens=tokens.longest_answer or None,
    )


class _Tokens:
    """Counts the tokens of the first rows."""

    def __init__(self, encode: Encode | None) -> None:
        self._encode = encode
        self._offered = self.rows = self.total = self.longest = self.longest_answer = 0

    @property
    def complete(self) -> bool:
        """Whether no row was passed over for being late."""
        return self._encode is None or self._offered <= ENCODED_ROWS

    def add(self, example: Example) -> None:
        self._offered += 1
        if self._encode is None or not self.complete:
            return
        encoded = encode_row(example, self._encode)
        # A row that the template refuses is reported by the data room.
        if isinstance(encoded, Encoded):
            self.rows += 1
            lengths = [len(answer.ids) for answer in encoded.answers]
            self.total += sum(lengths)
            self.longest = max(self.longest, *lengths)
            self.longest_answer = max(self.longest_answer, max(lengths) - encoded.prompt_tokens)
