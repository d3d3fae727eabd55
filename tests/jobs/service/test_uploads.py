import hashlib
import io
import threading
import time
from pathlib import Path

import pytest
from tests.jobs.service.made import OWNER, chat_lines, service_of

from luthier.jobs.service import uploads as module
from luthier.jobs.service.records import UploadRecord
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path)


def begin(service: Service, size: int, **more: object) -> UploadRecord:
    words = {"filename": "a.bin", "mime_type": "text/jsonl", "purpose": "user_data", "owner": OWNER}
    return service.uploads.create(bytes=size, **(words | more))


def part(service: Service, upload: UploadRecord, data: bytes) -> str:
    return service.uploads.add_part(upload.id, io.BytesIO(data), OWNER).id


def test_parts_become_a_file_in_the_order_asked(service: Service) -> None:
    upload = begin(service, 9, expires_after_s=3600)
    assert upload.status == "pending" and upload.expires_at == upload.created_at + 3600
    b, c, a = part(service, upload, b"bbb"), part(service, upload, b"ccc"), part(service, upload, b"aaa")
    md5 = hashlib.md5(b"aaabbbccc").hexdigest()
    done, file = service.uploads.complete(upload.id, [a, b, c], OWNER, md5=md5.upper())
    assert (done.status, done.file_id) == ("completed", file.id)
    assert service.files.path(file.id, OWNER).read_bytes() == b"aaabbbccc"
    assert (file.filename, file.bytes, file.purpose) == ("a.bin", 9, "user_data")
    assert service.files.get(file.id, OWNER).expires_at == file.created_at + 3600
    assert list(service.home.uploads.iterdir()) == []


@pytest.mark.parametrize("size", [1, 8, 10])
def test_the_size_must_be_as_said(service: Service, size: int) -> None:
    upload = begin(service, 9)
    with pytest.raises(Refusal, match="bytes") as refused:
        service.uploads.complete(upload.id, [part(service, upload, b"x" * size)], OWNER)
    assert refused.value.status == 400
    assert service.uploads.get(upload.id, OWNER).status == "pending" and service.files.list(OWNER).data == []
    assert len(list(service.home.uploads.rglob("part_*"))) == (size <= 9)


def test_md5_and_part_ids_are_checked(service: Service) -> None:
    upload, other = begin(service, 3), begin(service, 3)
    mine, foreign = part(service, upload, b"abc"), part(service, other, b"abc")
    for ids, md5, what in (
        ([mine], "0" * 32, "MD5"),
        ([foreign], None, "No such Part"),
        (["part_../../x"], None, "No such Part"),
        ([mine, mine], None, "twice"),
        ([], None, "0 bytes"),
    ):
        with pytest.raises(Refusal, match=what):
            service.uploads.complete(upload.id, ids, OWNER, md5=md5)
    assert list(service.home.files.iterdir()) == []
    assert service.uploads.complete(upload.id, [mine], OWNER)[0].status == "completed"


def test_a_training_file_is_looked_at_when_it_is_whole(service: Service) -> None:
    data = chat_lines(2)
    upload = begin(service, len(data), purpose="fine-tune")
    parts = [part(service, upload, data[:50]), part(service, upload, data[50:])]
    with pytest.raises(Refusal, match="JSONL format"):
        service.uploads.complete(upload.id, parts[::-1], OWNER)
    assert service.uploads.complete(upload.id, parts, OWNER)[1].purpose == "fine-tune"


def test_only_a_pending_upload_changes(service: Service) -> None:
    upload = begin(service, 3)
    kept = part(service, upload, b"abc")
    assert service.uploads.cancel(upload.id, OWNER).status == "cancelled"
    assert list(service.home.uploads.iterdir()) == []
    for act in (
        lambda: service.uploads.cancel(upload.id, OWNER),
        lambda: part(service, upload, b"x"),
        lambda: service.uploads.complete(upload.id, [kept], OWNER),
    ):
        with pytest.raises(Refusal, match="is cancelled"):
            act()


def test_limits(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for size, what in ((0, "at least 1"), ((512 << 20) + 1, "larger than")):
        with pytest.raises(Refusal, match=what):
            begin(service, size)
    upload = begin(service, 100)
    monkeypatch.setattr(module, "MAX_PART_BYTES", 10)
    with pytest.raises(Refusal, match="limit") as refused:
        part(service, upload, b"x" * 11)
    assert refused.value.status == 413
    with pytest.raises(Refusal, match="empty"):
        part(service, upload, b"")
    assert list(service.home.upload(upload.id).iterdir()) == []


def test_an_upload_expires_after_an_hour(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = begin(service, 3)
    part(service, upload, b"abc")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    assert service.uploads.get(upload.id, OWNER).status == "expired"
    with pytest.raises(Refusal, match="is expired"):
        part(service, upload, b"abc")
    service.uploads.expire()
    assert list(service.home.uploads.iterdir()) == []


def test_another_project_sees_nothing(service: Service) -> None:
    upload = begin(service, 3)
    for act in (
        lambda: service.uploads.get(upload.id, "other"),
        lambda: service.uploads.cancel(upload.id, "other"),
        lambda: service.uploads.add_part(upload.id, io.BytesIO(b"x"), "other"),
        lambda: service.uploads.complete(upload.id, [], "other"),
    ):
        with pytest.raises(Refusal, match="No such Upload") as refused:
            act()
        assert refused.value.status == 404


def test_only_one_of_many_completes(service: Service) -> None:
    upload = begin(service, 3)
    kept, ended = part(service, upload, b"abc"), []

    def complete() -> None:
        try:
            ended.append(service.uploads.complete(upload.id, [kept], OWNER)[1].id)
        except Refusal:
            ended.append(None)

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([id for id in ended if id]) == 1
    assert [path.name for path in service.home.files.iterdir()] == [id for id in ended if id]


def test_what_a_crash_left_is_swept(service: Service) -> None:
    upload = begin(service, 6)
    kept = part(service, upload, b"abc")
    (service.home.upload(upload.id) / ("part_" + "a" * 24)).write_text("left")
    (service.home.uploads / ("upload_" + "a" * 24)).mkdir()
    service.uploads.sweep()
    assert [path.name for path in service.home.uploads.rglob("*")] == [upload.id, kept]
