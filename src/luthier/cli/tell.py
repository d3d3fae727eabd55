"""Speaking to a person: data on stdout, talk on stderr."""

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from luthier.core.errors import LuthierError

PLAIN_WIDTH = 160
"""Columns of a table where there is no terminal to ask."""


def put(text: str) -> None:
    """Write a line of data."""
    print(text)


def put_json(value: Any) -> None:
    """Write one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Write a line of talk."""
    print(text, file=sys.stderr, flush=True)


def put_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table of data, as wide as the terminal allows."""
    _table(sys.stdout, title, columns, rows)


def say_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table of talk."""
    _table(sys.stderr, title, columns, rows)


def _table(stream: TextIO, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=stream, width=None if stream.isatty() else PLAIN_WIDTH, highlight=False).print(table)


def error_json(error: LuthierError) -> dict[str, Any]:
    """Return an error as programs read it."""
    body = {"code": error.code, "what": error.what, "where": error.where, "why": error.why, "hint": error.hint}
    return {"error": body}
