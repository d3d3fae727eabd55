"""CoNLL: a token and its tag on each line, a blank line after each sentence (Tjong Kim Sang & De Meulder 2003)."""

from collections.abc import Iterator
from pathlib import Path

from luthier.data.formats.tagged import TAG
from luthier.data.rows import RawRow, RowError, RowIssue
from luthier.data.sources.jsonl import text_of
from luthier.data.sources.streams import lines, open_text

SUFFIXES = (".conll", ".iob", ".iob2", ".bio", ".bioes")
DOCUMENT = "-DOCSTART-"


class _Sentence:
    """The lines since the last blank one."""

    def __init__(self) -> None:
        self.first, self.tokens, self.tags = 0, list[str](), list[str]()
        self.wrong: RowIssue | None = None

    def add(self, name: str, number: int, line: bytes | None) -> None:
        self.first = self.first or number
        try:
            token, tag = _columns(text_of(line))
        except RowError as error:
            # The sentence's first fault names its line; the rest of the sentence means nothing without it.
            self.wrong = self.wrong or error.issue(name, number)
            return
        self.tokens.append(token)
        self.tags.append(tag)

    def row(self, name: str) -> RawRow | RowIssue:
        return self.wrong or RawRow(name, self.first, {"tokens": self.tokens, "tags": self.tags})


def read_conll(path: Path, name: str) -> Iterator[RawRow | RowIssue]:
    """Yield a row for each sentence, numbered by its first line; the tag is the last column."""
    sentence = _Sentence()
    with open_text(path) as stream:
        for number, line in enumerate(lines(stream), 1):
            if line is not None and line.strip() and not line.startswith(DOCUMENT.encode()):
                sentence.add(name, number, line)
            elif sentence.first:
                yield sentence.row(name)
                sentence = _Sentence()
    if sentence.first:
        yield sentence.row(name)


def _columns(line: str) -> tuple[str, str]:
    columns = line.split()
    if len(columns) < 2:
        raise RowError("a line has a token and, after a space or tab, its tag", code="bad_tag")
    if not TAG.fullmatch(columns[-1]):
        raise RowError(f"`{columns[-1]}` is not a tag such as `O` or `B-PER`", code="bad_tag")
    return columns[0], columns[-1]
