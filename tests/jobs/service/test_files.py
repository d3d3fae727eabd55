import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.service.made import OWNER, chat_lines, put, service_of

from luthier.jobs.service import files as module
from luthier.jobs.service.files import check_first_lines
from luthier.jobs.service.home import open_kept
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path)


def test_a_file_comes_back_as_it_went_in(service: Service) -> None:
    data = chat_lines(3)
    file = put(service, data)
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(data), "rows.jsonl", "fine-tune", "processed")
    assert service.files.get(file.id, OWNER) == file
    with open_kept(service.files.path(file.id, OWNER)) as kept:
        assert kept.read() == data


def test_another_project_sees_nothing(service: Service) -> None:
    file = put(service, b"x", purpose="batch")
    for look in (service.files.get, service.files.path, service.files.delete):
        with pytest.raises(Refusal, match=f"No such File object: {file.id}") as refused:
            look(file.id, "other")
        assert refused.value.status == 404
    assert service.files.list("other").data == []
    assert service.files.get(file.id, OWNER) == file


def test_lists_are_paged_in_both_orders(service: Service) -> None:
    made = [put(service, b"x", purpose="batch" if n % 2 else "user_data").id for n in range(7)]
    for order, wanted in (("desc", made[::-1]), ("asc", made)):
        seen: list[str] = []
        after, more = None, True
        while more:
            page = service.files.list(OWNER, limit=3, order=order, after=after)
            seen += [file.id for file in page.data]
            after, more = seen[-1], page.has_more
        assert seen == wanted
    assert [file.id for file in service.files.list(OWNER, purpose="batch").data] == made[1::2][::-1]
    with pytest.raises(Refusal, match="No such File"):
        service.files.list(OWNER, after="file-nothing")
    with pytest.raises(Refusal, match="minimum"):
        service.files.list(OWNER, limit=0)


def test_a_deleted_file_is_gone_with_its_bytes(service: Service) -> None:
    file = put(service, b"x", purpose="vision")
    path = service.files.path(file.id, OWNER)
    service.files.delete(file.id, OWNER)
    assert not path.exists()
    with pytest.raises(Refusal):
        service.files.get(file.id, OWNER)


def test_too_many_bytes_are_refused_while_they_come(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 3 << 20)
    taken = 0

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            nonlocal taken
            taken += size
            return b"x" * size

    with pytest.raises(Refusal, match="limit of") as refused:
        service.files.create(Endless(), filename="a", purpose="user_data", owner=OWNER)
    assert refused.value.status == 413 and taken <= 5 << 20
    assert list(service.home.files.iterdir()) == [] and service.files.list(OWNER).data == []


def test_a_broken_stream_leaves_nothing(service: Service) -> None:
    def broken() -> Iterator[bytes]:
        yield b"first"
        raise ConnectionResetError

    with pytest.raises(Exception, match=".*"):
        service.files.keep(broken(), filename="a", purpose="batch", owner=OWNER)
    assert list(service.home.files.iterdir()) == []


@pytest.mark.parametrize("filename", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000, "", "..", "con", "a/b\\c"])
def test_a_file_name_never_becomes_a_path(service: Service, filename: str) -> None:
    before = set(service.home.path.parent.rglob("*"))
    file = service.files.create(io.BytesIO(b"x"), filename=filename, purpose="batch", owner=OWNER)
    new = set(service.home.path.parent.rglob("*")) - before
    assert new == {service.home.files / file.id} and len(file.filename) <= 255


@pytest.mark.parametrize(("seconds", "good"), [(3599, False), (3600, True), (2_592_000, True), (2_592_001, False)])
def test_expiry_has_a_range(service: Service, seconds: int, good: bool) -> None:
    words = {"filename": "a", "purpose": "batch", "owner": OWNER, "expires_after_s": seconds}
    if good:
        file = service.files.create(io.BytesIO(b"x"), **words)
        assert file.expires_at == file.created_at + seconds
    else:
        with pytest.raises(Refusal, match="expires_after"):
            service.files.create(io.BytesIO(b"x"), **words)


def test_an_expired_file_is_gone_and_then_swept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"filename": "a", "purpose": "batch", "owner": OWNER}
    file = service.files.create(io.BytesIO(b"x"), **words, expires_after_s=3600)
    kept = service.files.create(io.BytesIO(b"x"), **words)
    path, now = service.files.path(file.id, OWNER), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    with pytest.raises(Refusal, match="No such File"):
        service.files.get(file.id, OWNER)
    assert [file.id for file in service.files.list(OWNER).data] == [kept.id] and path.exists()
    service.files.expire()
    assert not path.exists() and service.files.path(kept.id, OWNER).exists()


def test_what_a_crash_left_is_swept(service: Service) -> None:
    file = put(service, b"x", purpose="batch")
    for name in (".file-" + "a" * 24, "file-" + "b" * 24, "odd"):
        (service.home.files / name).write_text("left")
    service.files.sweep()
    assert [path.name for path in service.home.files.iterdir()] == [file.id]


def test_an_unknown_purpose_is_refused(service: Service) -> None:
    with pytest.raises(Refusal, match="'fine-tune-results' is not one of") as refused:
        put(service, b"x", purpose="fine-tune-results")
    assert refused.value.param == "purpose"


FIRST_LINES = [
    (b'{\n  "messages": []\n}\n', 1, "{"),
    (b"[1, 2]\n", 1, "["),
    (b'{"a": 1}\nhello\n', 2, "h"),
    (b'{"a": 1}\n{"b": }\n', 2, "{"),
    (b'"text"\n', 1, '"'),
    (b'{"a": 1}{"b": 2}\n', 1, "{"),
    (b"\xff\xfe{\0", 1, "\ufffd"),
    (b"PK\x03\x04", 1, "P"),
    (b"[" * 100_000, 1, "["),
]


@pytest.mark.parametrize(("data", "line", "first"), FIRST_LINES)
def test_first_lines_that_are_no_objects(service: Service, data: bytes, line: int, first: str) -> None:
    with pytest.raises(Refusal) as refused:
        put(service, data)
    assert refused.value.args[0] == (
        "Expected file to have JSONL format, where every line is a JSON dictionary. "
        f'Line {line} is not a dictionary (HINT: line starts with: "{first}...").'
    )
    error = refused.value
    assert (error.status, error.kind, error.error_code) == (400, "invalid_request_error", None)
    assert list(service.home.files.iterdir()) == []


def test_good_first_lines(service: Service) -> None:
    assert put(service, b"\xef\xbb\xbf" + chat_lines(2)).bytes > 3
    assert put(service, b"\n" + chat_lines(2).replace(b"\n", b"\r\n")).bytes > 3
    assert put(service, json.dumps({"a": "x" * (3 << 20)}).encode()).bytes > 3 << 20
    assert put(service, b"no json", purpose="assistants").bytes == 7
    with pytest.raises(Refusal, match="empty"):
        put(service, b" \n")


@given(st.binary(max_size=200))
def test_no_bytes_break_the_first_look(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "looked-at"
    path.write_bytes(data)
    try:
        check_first_lines(path)
    except Refusal as refused:
        assert refused.status == 400
    else:
        assert data.strip()
