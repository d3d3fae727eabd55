"""Files and uploads, asked by the official client."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from tests.api.whole import Whole, refused, whole_in
from tests.jobs.service.made import OWNER, chat_lines

ROWS = chat_lines()
HOUR = 3600


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_in(tmp_path_factory.mktemp("files")) as house:
        yield house


def test_a_file_from_upload_to_deletion(house: Whole, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(ROWS)
    client = house.client()
    with (tmp_path / "train.jsonl").open("rb") as stream:
        made = client.files.create(file=stream, purpose="fine-tune")
    assert re.fullmatch(r"file-[a-z0-9]{24}", made.id)
    assert (made.object, made.bytes, made.filename, made.purpose, made.status) == (
        *("file", len(ROWS), "train.jsonl", "fine-tune"),
        "processed",
    )
    assert client.files.retrieve(made.id) == made and client.files.wait_for_processing(made.id) == made
    assert client.files.content(made.id).read() == ROWS
    gone = client.files.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "file", True)
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as raised:
            ask(made.id)
        refused(raised, openai.NotFoundError, message=f"No such File object: {made.id}", param="id", code=None)


def test_null_fields_are_left_out_as_hosted(house: Whole) -> None:
    made = house.http().get(f"/v1/files/{house.upload().id}").json()
    assert set(made) == {"id", "object", "bytes", "created_at", "filename", "purpose", "status"}


def test_a_file_can_expire(house: Whole) -> None:
    client = house.client()
    made = house.upload(expires_after={"anchor": "created_at", "seconds": HOUR})
    assert made.expires_at == made.created_at + HOUR
    for seconds in (HOUR - 1, 2_592_001):
        with pytest.raises(openai.BadRequestError) as raised:
            house.upload(expires_after={"anchor": "created_at", "seconds": seconds})
        refused(raised, openai.BadRequestError, param="expires_after.seconds")
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(file=b"x", purpose="batch", extra_body={"expires_after": {"seconds": HOUR}})
    refused(raised, openai.BadRequestError, param="expires_after")


def test_a_list_is_paged_filtered_and_ordered(house: Whole) -> None:
    client = house.client("other")
    made = [house.upload(key="other").id for _ in range(3)]
    other = client.files.create(file=("a.txt", b"hello"), purpose="user_data").id
    assert [file.id for file in client.files.list(limit=2)] == [other, *made[::-1]], "the client asks for all pages"
    page = client.files.list(limit=2, order="asc")
    assert [file.id for file in page.data] == made[:2] and page.has_more
    told = house.http("other").get("/v1/files?limit=2&order=asc").json()
    assert (told["first_id"], told["last_id"]) == (made[0], made[1])
    assert [file.id for file in client.files.list(purpose="user_data")] == [other]
    empty = house.http("other").get("/v1/files?purpose=batch").json()
    assert empty == {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
    with pytest.raises(openai.NotFoundError) as raised:
        client.files.list(after="file-none")
    refused(raised, openai.NotFoundError, param="after")
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.list(limit=0)
    refused(raised, openai.BadRequestError, param="limit")


def test_another_project_sees_nothing(house: Whole) -> None:
    id, other = house.upload().id, house.client("other")
    for ask in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError) as raised:
            ask(id)
        refused(raised, openai.NotFoundError, message=f"No such File object: {id}")
    assert id not in [file.id for file in other.files.list()]
    assert house.client().files.retrieve(id).id == id


@pytest.mark.parametrize("line", ["hello", "[1]", '{"a": 1'])
def test_lines_that_are_no_objects_are_refused_in_the_hosted_words(house: Whole, line: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        house.upload(f"{line}\n".encode())
    message = (
        "Expected file to have JSONL format, where every line is a JSON dictionary. "
        f'Line 1 is not a dictionary (HINT: line starts with: "{line[0]}...").'
    )
    refused(raised, openai.BadRequestError, message=message, type="invalid_request_error", code=None)


def test_fields_of_the_form_that_are_wrong_are_named(house: Whole) -> None:
    with house.http() as http:
        file = {"file": ("a.jsonl", ROWS)}
        for asked, param in (
            ({"data": {"purpose": "fine-tune"}, "files": {"other": ("a", b"a")}}, "file"),
            ({"files": file}, "purpose"),
            ({"files": file, "data": {"purpose": "anything"}}, "purpose"),
        ):
            reply = http.post("/v1/files", **asked)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
            assert set(reply.json()) == {"error"}
        reply = http.post("/v1/files", json={"purpose": "fine-tune"})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "file"
        reply = http.post("/v1/files", content=b"a=b", headers={"content-type": "text/plain"})
        assert reply.status_code == 415 and reply.json()["error"]["type"] == "invalid_request_error"


def test_a_name_is_told_and_never_a_path(house: Whole) -> None:
    made = house.client().files.create(file=("../../etc/passwd", ROWS), purpose="fine-tune")
    assert made.filename.endswith("passwd")
    assert {path.name for path in house.service.home.files.iterdir()} >= {made.id}
    assert not list(house.service.home.path.parent.rglob("passwd"))


def test_results_are_base64_at_one_door_and_plain_at_the_other(house: Whole) -> None:
    table = b"step,train_loss\n" + b"".join(b"%d,0.5\n" % step for step in range(200_000))
    chunks = iter([table])
    made = house.service.files.keep(chunks, filename="step_metrics.csv", purpose="fine-tune-results", owner=OWNER)
    assert base64.b64decode(house.client().files.content(made.id).read(), validate=True) == table
    assert house.azure().files.content(made.id).read() == table
    assert house.http().get(f"/openai/v1/files/{made.id}/content").content == table
    assert house.client().files.retrieve(made.id).purpose == "fine-tune-results"


def test_the_async_client_does_the_same(house: Whole) -> None:
    async def ask() -> None:
        async with house.async_client() as client:
            made = await client.files.create(file=("a.jsonl", ROWS), purpose="fine-tune")
            assert await client.files.retrieve(made.id) == made
            assert made.id in [file.id async for file in client.files.list(limit=1)]
            assert (await client.files.content(made.id)).read() == ROWS
            assert (await client.files.delete(made.id)).deleted

    asyncio.run(ask())


def test_an_upload_in_parts_becomes_a_file(house: Whole) -> None:
    client = house.client()
    upload = client.uploads.create(
        bytes=len(ROWS), filename="big.jsonl", mime_type="text/jsonl", purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": HOUR},
    )  # fmt: skip
    assert (upload.object, upload.status, upload.file, upload.bytes) == ("upload", "pending", None, len(ROWS))
    assert upload.expires_at == upload.created_at + HOUR
    second = client.uploads.parts.create(upload.id, data=ROWS[100:])
    first = client.uploads.parts.create(upload.id, data=ROWS[:100])
    assert (first.object, first.upload_id) == ("upload.part", upload.id)
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=hashlib.md5(ROWS).hexdigest())
    assert done.status == "completed" and done.file.filename == "big.jsonl" and done.file.expires_at
    assert client.files.content(done.file.id).read() == ROWS
    for ask in (lambda: client.uploads.cancel(upload.id), lambda: client.uploads.parts.create(upload.id, data=b"x")):
        with pytest.raises(openai.BadRequestError) as raised:
            ask()
        refused(raised, openai.BadRequestError, param="upload_id")


def test_the_clients_own_way_to_upload_in_chunks(house: Whole, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    done = house.client().uploads.upload_file_chunked(
        file=tmp_path / "rows.jsonl", mime_type="text/jsonl", purpose="fine-tune", part_size=300
    )
    assert done.status == "completed" and house.client().files.content(done.file.id).read() == ROWS


def test_uploads_that_do_not_fit_are_refused(house: Whole) -> None:
    client = house.client()
    given = {"bytes": 10, "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
    for wrong, param in (({"bytes": (512 << 20) + 1}, "bytes"), ({"bytes": 0}, "bytes"), ({"purpose": "x"}, "purpose")):
        with pytest.raises(openai.BadRequestError) as raised:
            client.uploads.create(**{**given, **wrong})
        refused(raised, openai.BadRequestError, param=param)
    upload = client.uploads.create(**given)
    part = client.uploads.parts.create(upload.id, data=b"123")
    with pytest.raises(openai.BadRequestError) as raised:
        client.uploads.complete(upload.id, part_ids=[part.id])
    refused(raised, openai.BadRequestError, param="part_ids")
    with pytest.raises(openai.NotFoundError) as raised:
        client.uploads.complete(upload.id, part_ids=["part_none"])
    refused(raised, openai.NotFoundError, param="part_ids")
    with pytest.raises(openai.NotFoundError) as raised:
        house.client("other").uploads.cancel(upload.id)
    refused(raised, openai.NotFoundError, message=f"No such Upload object: {upload.id}")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert list(house.service.home.uploads.iterdir()) == []


def test_async_uploads(house: Whole) -> None:
    async def ask() -> bytes:
        async with house.async_client() as client:
            given = {"filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
            done = await client.uploads.upload_file_chunked(file=ROWS, bytes=len(ROWS), part_size=500, **given)
            return (await client.files.content(done.file.id)).read()

    assert asyncio.run(ask()) == ROWS


def test_a_file_with_azures_mark_is_taken(house: Whole) -> None:
    made = house.azure().files.create(file=("a.jsonl", b"\xef\xbb\xbf" + ROWS), purpose="fine-tune")
    assert house.azure().files.content(made.id).read() == b"\xef\xbb\xbf" + ROWS
    assert json.loads(ROWS.splitlines()[0])


def test_a_file_sent_twice_with_one_key_is_one_file(house: Whole) -> None:
    more = {"extra_headers": {"Idempotency-Key": "file-1"}}
    first = house.upload(**more)
    assert house.upload(**more) == first
    with pytest.raises(openai.ConflictError) as raised:
        house.upload(chat_lines(13), **more)
    refused(raised, openai.ConflictError, code="idempotency_key_reused", param="Idempotency-Key")
    with pytest.raises(openai.ConflictError):
        house.client().files.create(file=("other.jsonl", ROWS), purpose="fine-tune", **more)
    with pytest.raises(openai.BadRequestError) as raised:
        house.upload(extra_headers={"Idempotency-Key": "a" * 256})
    refused(raised, openai.BadRequestError, param="Idempotency-Key")


def test_files_at_once_with_one_key_are_one_file(house: Whole) -> None:
    before = len(list(house.service.home.files.iterdir()))
    with ThreadPoolExecutor(8) as threads:
        sent = [threads.submit(house.upload, extra_headers={"Idempotency-Key": "file-2"}) for _ in range(8)]
        assert len({one.result().id for one in sent}) == 1
    assert len(list(house.service.home.files.iterdir())) == before + 1
