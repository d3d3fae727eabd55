"""Texts out of a file of any known kind, to be judged by a head or to write another text from."""

from luthier.core.errors import DataError

SOURCES = ("input", "prompt", "document", "article", "source", "question")
"""Columns with a source text, where none is called a text."""


def texts_of(name: str) -> list[str]:
    """Return the text of each row: bare text, its text column, or its tokens; the first row without one is an error."""
    from luthier.data.formats.labelled import TEXTS
    from luthier.data.formats.tagged import TOKENS
    from luthier.data.rows import RowIssue
    from luthier.data.sources.find import find_sources

    texts = []
    for source in find_sources(name, "FILE"):
        for row in source.rows():
            if isinstance(row, RowIssue):
                raise DataError("a row cannot be read", where={"file": f"{row.file}:{row.row}"}, why=row.reason)
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
