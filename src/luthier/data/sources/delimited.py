"""CSV and TSV with a header line."""

import csv
from collections.abc import Iterator
from pathlib import Path

from luthier.core.errors import DataError
from luthier.data.rows import RawRow, RowError, RowIssue
from luthier.data.sources.streams import lines, open_text


def read_csv(path: Path, name: str) -> Iterator[RawRow | RowIssue]:
    """Yield the records below the header of a comma-separated file."""
    return _records(path, name, csv.excel)


def read_tsv(path: Path, name: str) -> Iterator[RawRow | RowIssue]:
    """Yield the records below the header of a tab-separated file."""
    return _records(path, name, csv.excel_tab)


def _records(path: Path, name: str, dialect: type[csv.Dialect]) -> Iterator[RawRow | RowIssue]:
    with open_text(path) as stream:
        reader = csv.reader(_text_lines(stream, path), dialect, strict=True)
        header = _header(reader, path)
        for number, record in enumerate(_cells(reader) if header else (), 1):
            try:
                yield RawRow(name, number, _record(header, record))
            except RowError as error:
                yield error.issue(name, number)


def _cells(reader: Iterator[list[str]]) -> Iterator[list[str] | RowError]:
    """Yield the cells of each record that is not blank, or why it has none; the reader goes on after an error."""
    while True:
        begins = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield RowError(_explain(error, begins), code="not_csv")
            continue
        if cells is None:
            return
        if cells:
            yield cells


def _text_lines(stream: object, path: Path) -> Iterator[str]:
    for number, line in enumerate(lines(stream), 1):  # type: ignore[arg-type]
        if line is None:
            hint = "check that it is a text file of rows, or save it as JSON Lines"
            raise DataError("a line is longer than 64 MB", where={"file": path, "line": number}, hint=hint)
        # Bytes that are not UTF-8 are kept as marks and found per cell, so that one bad row is one bad row.
        yield line.decode(errors="surrogateescape")


def _header(reader: Iterator[list[str]], path: Path) -> list[str]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        where, hint = {"file": path, "line": 1}, "write the columns' names into the first line"
        raise DataError("the header line cannot be read", where=where, why=str(error), hint=hint) from error
    _check_header(header, path)
    return header


def _check_header(header: list[str], path: Path) -> None:
    where = {"file": path, "line": 1}
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(
            "the header names a column twice", where=where, why=f"`{twice[0]}`", hint="give each column its own name"
        )
    if not all(map(_is_unicode, header)):
        raise DataError("the header line is not UTF-8", where=where, hint="save the file as UTF-8")
    if len(header) == 1 and (found := next((mark for mark in ";\t|," if mark in header[0]), None)):
        hint = "save it with commas as `.csv`, or with tabs as `.tsv`"
        raise DataError(
            "the columns are not separated as the file name says",
            where=where,
            why=f"the header holds {found!r}",
            hint=hint,
        )


def _record(header: list[str], cells: list[str] | RowError) -> dict[str, str]:
    if isinstance(cells, RowError):
        raise cells
    if len(cells) != len(header):
        raise RowError(f"{len(cells)} cells under {len(header)} columns", code="ragged")
    for column, cell in zip(header, cells, strict=True):
        if not _is_unicode(cell):
            raise RowError("not UTF-8", f"/{column}", code="not_utf8")
    return dict(zip(header, cells, strict=True))


def _is_unicode(text: str) -> bool:
    # Cheaper than encoding, and `isascii` settles most cells at once.
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _explain(error: csv.Error, line: int) -> str:
    reason = str(error)
    if "field larger" in reason or "unexpected end" in reason:
        most = csv.field_size_limit()
        return f"a quote opened in line {line} is not closed, or a cell is longer than {most:,} characters"
    return f"{reason} (line {line})"
