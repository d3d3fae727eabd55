import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from luthier.core.errors import ResourceError
from luthier.jobs.service.database import Database, open_database, schemas, statements
from luthier.jobs.service.ids import new_id
from luthier.jobs.service.refusal import Refusal


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(tmp_path / "service.db")


def add_file(database: Database, **more: object) -> str:
    id = new_id("file-")
    values = {"created_at": 1, "bytes": 1, "filename": "a", "purpose": "batch", "expires_at": None, "owner": "p"}
    database.query("add_file", **(values | {"id": id} | more))
    return id


def test_file_is_private_and_durable(database: Database) -> None:
    with database.transaction() as connection:
        settings = {
            name: connection.execute(f"pragma {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    files = [path for path in database.path.parent.iterdir() if path.name.startswith("service.db")]
    assert len(files) == 3 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_opening_again_changes_nothing_and_a_newer_database_is_refused(database: Database) -> None:
    add_file(database)
    again = open_database(database.path)
    assert len(again.query("file_ids")) == 1
    with again.transaction() as connection:
        assert connection.execute("pragma user_version").fetchone()[0] == max(schemas())
        connection.execute("pragma user_version = 99999")
    with pytest.raises(ResourceError, match="newer Luthier"):
        open_database(database.path)


def test_every_statement_is_understood(database: Database) -> None:
    class Anything(dict[str, object]):
        def __missing__(self, key: str) -> str:
            return "[]"

    with database.transaction() as connection:
        for name, text in statements().items():
            plan = connection.execute(f"explain {text}", Anything()).fetchall()
            assert plan, name


def test_a_transaction_is_all_or_nothing_and_may_be_nested(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction():
        add_file(database)
        with database.transaction():
            add_file(database)
        1 / 0  # noqa: B018
    assert database.query("file_ids") == []
    with database.transaction():
        add_file(database)
    assert len(database.query("file_ids")) == 1


def test_threads_write_at_once_and_nothing_is_lost(database: Database) -> None:
    def write() -> None:
        for _ in range(25):
            with database.transaction():
                add_file(database)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(database.query("file_ids")) == 150


@pytest.mark.parametrize(("column", "value"), [("filename", "half \ud800"), ("bytes", 1 << 70)])
def test_what_sqlite_cannot_hold_is_refused(database: Database, column: str, value: object) -> None:
    with pytest.raises(Refusal, match="cannot be stored") as refused:
        add_file(database, **{column: value})
    assert refused.value.status == 400 and database.query("file_ids") == []


def test_a_full_disk_is_said_and_leaves_the_rows_whole(database: Database) -> None:
    add_file(database)
    with database.transaction() as connection:
        pages = connection.execute("pragma page_count").fetchone()[0]
    database.query("file_ids")
    database._connection().execute(f"pragma max_page_count = {pages}")
    with pytest.raises(ResourceError, match="the disk is full"):
        for _ in range(1000):
            add_file(database, filename="x" * 2000)
    assert database._connection().execute("pragma integrity_check").fetchone()[0] == "ok"
    assert len(database.query("file_ids")) >= 1


def test_foreign_keys_hold(database: Database) -> None:
    values = {"created_at": 1, "level": "info", "message": "m", "type": "message", "data": None}
    with pytest.raises(sqlite3.IntegrityError):
        database.query("add_event", id=new_id("ftevent-"), job_id="none", key="k", **values)
