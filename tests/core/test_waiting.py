import os
from pathlib import Path

import pytest

from luthier.core import waiting
from luthier.core.waiting import NAMES, SPINS, settle_waiting

MANY = 1000


@pytest.fixture(autouse=True)
def bare(monkeypatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def load(monkeypatch, folder: Path, *, minute: float, now: int) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (minute, minute, minute), raising=False)
    (folder / "loadavg").write_text(f"{minute} {minute} {minute} {now}/80 11206\n")
    monkeypatch.setattr(waiting, "LOAD", folder / "loadavg")


@pytest.mark.parametrize(
    ("minute", "now", "after"),
    [(MANY, MANY, SPINS), (MANY, 1, None), (0.0, MANY, None)],
    ids=["busy", "was busy", "busy by chance"],
)
def test_threads_sleep_where_others_compute(monkeypatch, tmp_path, minute: float, now: int, after: str | None) -> None:
    load(monkeypatch, tmp_path, minute=minute, now=now)
    settle_waiting()
    assert os.environ.get("GOMP_SPINCOUNT") == after


@pytest.mark.parametrize("name", NAMES)
def test_what_the_environment_says_stays(monkeypatch, tmp_path, name: str) -> None:
    load(monkeypatch, tmp_path, minute=MANY, now=MANY)
    monkeypatch.setenv(name, "own")
    settle_waiting()
    assert [os.environ.get(other) for other in NAMES] == ["own" if other == name else None for other in NAMES]


def test_a_system_without_that_file_is_left_alone(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(waiting, "LOAD", tmp_path / "none")
    settle_waiting()
    assert "GOMP_SPINCOUNT" not in os.environ
