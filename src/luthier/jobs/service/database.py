"""The database: SQLite, durable at each commit; every statement stands by name in a `.sql` file."""

import contextlib
import errno
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from luthier.core.errors import ResourceError
from luthier.core.files import disk_errors
from luthier.jobs.service.home import PRIVATE_FILE
from luthier.jobs.service.records import Page, Record
from luthier.jobs.service.refusal import Refusal

SQL = Path(__file__).parent / "sql"
NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
BUSY_S = 30.0
"""How long a writer waits for another one."""
JSON_COLUMNS = ("hyperparameters", "metadata", "integrations", "error", "result_files", "data", "metrics", "sku")
R = TypeVar("R", bound=Record)


class Database:
    """One SQLite file; each thread has its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    def query(self, name: str, /, **values: Any) -> list[sqlite3.Row]:
        """Run the statement of that name, within this thread's transaction if one is open, and return its rows."""
        with _explained(self.path):
            return self._connection().execute(statements()[name], _storable(values)).fetchall()

    def one(self, name: str, /, **values: Any) -> sqlite3.Row | None:
        """Return the first row of a statement, or None."""
        rows = self.query(name, **values)
        return rows[0] if rows else None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and nobody writes in between; a transaction within one is part of it."""
        connection = self._connection()
        if connection.in_transaction:
            yield connection
            return
        with _explained(self.path):
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            finally:
                if connection.in_transaction:
                    connection.execute("rollback")

    def close(self) -> None:
        """Close this thread's connection; those of other threads close as the threads end."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection

    def _connection(self) -> sqlite3.Connection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            with _explained(self.path):
                connection = self._local.connection = _connect(self.path)
        return connection


def open_database(path: Path) -> Database:
    """Create the file where it is missing, private to its owner, and bring its tables up to date."""
    with disk_errors(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE))
    database = Database(path)
    with database.transaction() as connection:
        _migrate(connection, path)
    return database


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    done, newest = connection.execute("pragma user_version").fetchone()[0], max(schemas())
    if done > newest:
        why = f"its tables are of version {done}, this Luthier knows {newest}"
        raise ResourceError("the database was made by a newer Luthier", where={"file": path}, why=why)
    for version in sorted(version for version in schemas() if version > done):
        for statement in _statements_of(schemas()[version]):
            connection.execute(statement)
        connection.execute(f"pragma user_version = {version:d}")


def _connect(path: Path) -> sqlite3.Connection:
    # Handed to no other thread; the check is off only so that a dead thread's connection may be closed.
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")
    return connection


@cache
def statements() -> dict[str, str]:
    """Return every named statement of `sql/*.sql`."""
    found: dict[str, str] = {}
    for file in sorted(SQL.glob("*.sql")):
        _, *parts = NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            found[name] = text.strip()
    return found


@cache
def schemas() -> dict[int, str]:
    """Return the tables' versions, from `sql/schema/NNN_….sql`; a file is applied once and never changed after."""
    return {int(file.name[:3]): file.read_text(encoding="utf-8") for file in (SQL / "schema").glob("*.sql")}


def _statements_of(text: str) -> Iterator[str]:
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _storable(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value
        for name, value in values.items()
    }


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a full disk into a ResourceError, and what SQLite cannot hold into a Refusal."""
    try:
        yield
    except (UnicodeEncodeError, OverflowError) as error:
        what = "a text is not Unicode" if isinstance(error, UnicodeEncodeError) else "a number is too large"
        raise Refusal(f"The request cannot be stored: {what}.") from error
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        with disk_errors(path):
            raise OSError(errno.ENOSPC, str(error)) from error


def as_record(kind: type[R], row: sqlite3.Row, **more: Any) -> R:
    """Return a row as what it stores; `more` replaces columns."""
    names = kind.model_fields.keys() & set(row.keys())
    values = {name: row[name] for name in names}
    parsed = {name: json.loads(values[name]) for name in names & set(JSON_COLUMNS) if values[name] is not None}
    return kind.model_validate(values | parsed | more)


def as_page(rows: list[sqlite3.Row], limit: int, make: Callable[[sqlite3.Row], R]) -> Page[R]:
    """Return the first `limit` rows; one row more was asked for, to know whether there are more."""
    return Page(data=[make(row) for row in rows[:limit]], has_more=len(rows) > limit)


def check_limit(limit: int) -> int:
    """Return how many rows to ask for: one more than will be shown."""
    if limit < 1:
        raise Refusal(f"{limit} is less than the minimum of 1 - 'limit'", param="limit")
    return limit + 1
