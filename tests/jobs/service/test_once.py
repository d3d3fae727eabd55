from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.jobs.service import once as module
from luthier.jobs.service.database import open_database
from luthier.jobs.service.once import KEPT_S, Once, Reply
from luthier.jobs.service.refusal import Refusal


@pytest.fixture
def once(tmp_path: Path) -> Iterator[Once]:
    database = open_database(tmp_path / "service.db")
    yield Once(database)
    database.close()


class Work:
    """Counts how often it is done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Reply:
        self.times += 1
        return {"id": self.times, "none": None, "text": "é"}


def test_the_same_request_is_done_once(once: Once) -> None:
    work = Work()
    first = once.do("a", "k", "digest", work=work)
    assert once.do("a", "k", "digest", work=work) == first == once.reply("a", "k", "digest") and work.times == 1


def test_another_owner_or_key_is_another_request(once: Once) -> None:
    work = Work()
    told = [once.do(owner, key, "digest", work=work)["id"] for owner, key in (("a", "k"), ("b", "k"), ("a", "l"))]
    assert told == [1, 2, 3]


def test_a_key_means_one_request(once: Once) -> None:
    once.do("a", "k", "digest", work=Work())
    with pytest.raises(Refusal) as refused:
        once.do("a", "k", "other", work=Work())
    assert refused.value.status == 409 and refused.value.error_code == "idempotency_key_reused"


def test_work_that_fails_is_not_remembered(once: Once) -> None:
    def fail() -> Reply:
        once.database.query("keep_reply", owner="a", key="within", now=10**10, digest="d", reply={})
        raise Refusal("no")

    with pytest.raises(Refusal):
        once.do("a", "k", "digest", work=fail)
    assert once.reply("a", "k", "digest") is None
    assert once.reply("a", "within", "d") is None, "what the work wrote is undone with it"


def test_a_key_is_forgotten_after_a_day(once: Once, monkeypatch: pytest.MonkeyPatch) -> None:
    once.do("a", "k", "digest", work=Work())
    real = module.time.time
    monkeypatch.setattr(module.time, "time", lambda: real() + KEPT_S + 1)
    assert once.reply("a", "k", "other") is None
    work = Work()
    once.do("a", "l", "digest", work=work)
    assert once.database.one("reply", owner="a", key="k", since=0) is None, "old ones are removed"
    assert work.times == 1
