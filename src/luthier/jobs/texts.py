"""Texts out of a file of any known kind: to be judged, with a question about each, or to write others from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.core.errors import DataError

if TYPE_CHECKING:
    from luthier.data.rows import RawRow

SOURCES = ("input", "prompt", "document", "article", "source", "question")
"""Columns with a source text, where none is called a text."""


@dataclass(frozen=True)
class Asked:
    """A question and the text that it is asked about."""

    question: str
    text: str


def asked_of(name: str) -> list[Asked]:
    """Return the question and the text of each row; the first row without both is an error."""
    from luthier.data.formats.squad import CONTEXT, QUESTION

    asked = []
    for row in _rows(name):
        found = [row.value.get(column) if isinstance(row.value, dict) else None for column in (QUESTION, CONTEXT)]
        question, text = (value if isinstance(value, str) else "" for value in found)
        if not question.strip() or not text.strip():
            hint = f"write rows with the columns `{QUESTION}` and `{CONTEXT}`"
            where = {"file": f"{row.file}:{row.row}"}
            raise DataError("a row has no question, or no text to ask about", where=where, hint=hint)
        asked.append(Asked(question, text))
    return asked


def texts_of(name: str) -> list[str]:
    """Return the text of each row: bare text, its text column, or its tokens; the first row without one is an error."""
    from luthier.data.formats.labelled import TEXTS
    from luthier.data.formats.tagged import TOKENS

    texts = []
    for row in _rows(name):
        value = row.value
        if isinstance(value, dict):
            column = next((one for one in (*TEXTS, *SOURCES) if isinstance(value.get(one), str)), None)
            tokens = value.get(TOKENS)
            joined = " ".join(map(str, tokens)) if isinstance(tokens, list) else None
            value = value[column] if column else joined or ""
        if not value.strip():
            hint = f"name the column one of {', '.join((*TEXTS, *SOURCES))}"
            raise DataError("a row has no text", where={"file": f"{row.file}:{row.row}"}, hint=hint)
        texts.append(value)
    return texts


def _rows(name: str) -> "Iterator[RawRow]":
    from luthier.data.rows import RowIssue
    from luthier.data.sources.find import find_sources

    for source in find_sources(name, "FILE"):
        for row in source.rows():
            if isinstance(row, RowIssue):
                raise DataError("a row cannot be read", where={"file": f"{row.file}:{row.row}"}, why=row.reason)
            yield row
