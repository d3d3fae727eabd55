"""A quick look at the data: what a plan is made from, without a model or a split."""

import itertools
import statistics

from pydantic import Field

from luthier.core.artifacts import AnswerKind
from luthier.data.answers import Answers
from luthier.data.check import Found
from luthier.data.formats.labelled import Labelled
from luthier.data.opened import PARTS, Encode, Opened, encode_row, open_data, with_labels
from luthier.data.rows import RowIssue
from luthier.data.spec import DataSpec
from luthier.examples.example import Example
from luthier.examples.store import Encoded


class Facts(Found):
    """What the first rows show."""

    sources: tuple[str, ...]
    """The files, as the recipe names them."""
    format: str
    """The recognised format."""
    because: str
    """What it was recognised by."""
    columns: tuple[str, ...]
    """All columns of the rows."""
    unused_columns: tuple[str, ...]
    """Columns that the format does not read."""
    rows: dict[str, int] = Field(default_factory=dict)
    """Readable rows by part, as far as looked at; `validation` and `test` only where they have files of their own."""
    complete: bool = False
    """Whether all rows were looked at."""
    unreadable: tuple[RowIssue, ...] = ()
    """Rows that cannot be read."""
    answer_kind: AnswerKind
    """What the answers are."""
    labels: tuple[str, ...]
    """The closed set of answers, sorted; empty where answers are open."""
    median_characters: int
    """Characters of the median row, prompt and answer."""
    longest_characters: int
    """Characters of the longest row."""
    longest_answer_characters: int
    """Characters of the longest answer."""
    mean_tokens: float | None = None
    """Tokens of a row on average; None without a tokenizer."""
    longest_tokens: int | None = None
    """Tokens of the longest row."""
    longest_answer_tokens: int | None = None
    """Tokens of the longest answer, end-of-turn included."""


def look(spec: DataSpec, *, limit: int = 2000, encode: Encode | None = None) -> Facts:
    """Read at most `limit` rows of each part; with `encode` (a Template's) also count their tokens."""
    opened = with_labels(open_data(spec))
    read = {part: list(itertools.islice(opened.examples(part), limit + 1)) for part in PARTS}
    complete = all(len(found) <= limit for found in read.values())
    rows = {part: [row for row in found[:limit] if isinstance(row, Example)] for part, found in read.items()}
    issues = [row for found in read.values() for row in found[:limit] if isinstance(row, RowIssue)]
    examples = [row for found in rows.values() for row in found]
    encoded = [encode_row(example, encode) for example in examples] if encode else []
    return _facts(opened, examples, [row for row in encoded if isinstance(row, Encoded)]).model_copy(
        update={
            "rows": {part: len(found) for part, found in rows.items()},
            "complete": complete,
            "unreadable": (*issues, *(row for row in encoded if isinstance(row, RowIssue))),
        }
    )


def _facts(opened: Opened, examples: list[Example], encoded: list[Encoded]) -> Facts:
    answers = Answers()
    for example in examples:
        answers.add(example)
    lengths = [_characters(example) for example in examples] or [0]
    tokens = [len(row.ids) for row in encoded]
    labels = opened.format.labels if isinstance(opened.format, Labelled) else answers.labels
    return Facts(
        sources=tuple(source.name for part in PARTS for source in opened.sources[part]),
        format=opened.format.name,
        because=opened.because,
        columns=opened.sample.columns,
        unused_columns=tuple(opened.unused),
        answer_kind=answers.kind,
        labels=tuple(sorted(labels)),
        median_characters=round(statistics.median(lengths)),
        longest_characters=max(lengths),
        longest_answer_characters=max((len(example.answer) for example in examples), default=0),
        mean_tokens=statistics.fmean(tokens) if tokens else None,
        longest_tokens=max(tokens, default=None),
        longest_answer_tokens=max((len(row.ids) - row.prompt_tokens for row in encoded), default=None),
    )


def _characters(example: Example) -> int:
    messages = sum(len(message.content) for message in example.messages)
    return messages + sum(len(segment.text) for segment in example.segments)
