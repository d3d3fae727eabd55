"""Hostile requests to the whole service, in the watched process: nothing runs, nothing outside the home is opened."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.zoo import animals
from tests.zoo.asking import HOST, form
from tests.zoo.conftest import Visit, Zoo
from tests.zoo.served import PLANTED, ROWS

from luthier.model.tiny import save_tiny

KEY = ("key", "")
"""Stands for the key of the house, which only the watched process knows."""
JSON = ("content-type", "application/json")
ALLOWED_4XX = range(400, 500)
TALK = {"model": "tiny", "max_tokens": 2}
A_FEW = 6


@dataclass
class Fort:
    """The service in the watched process, and the world around it that nothing may touch."""

    zoo: Zoo
    folder: Path
    base: Path
    outside: Path
    canary: Path
    fields: list[str]

    def call(self, name: str, **given: Any) -> Visit:
        return self.zoo.visit(f"tests.zoo.served:{name}", folder=str(self.folder), base=str(self.base), **given)

    def send(self, *requests: tuple[str, str, list[tuple[str, str]], bytes]) -> tuple[Visit, list[Any]]:
        """Send requests as they are, and check that they did no harm."""
        told = [(method, target, headers, body.decode("latin-1")) for method, target, headers, body in requests]
        visit = self.call("send", requests=told)
        self.expect_harmless(visit)
        return visit, visit.said

    def expect_harmless(self, visit: Visit) -> None:
        assert visit.refused is None, visit.refused
        assert not self.canary.exists(), "a canary ran"
        assert not visit.outside(self.folder, self.base, self.zoo.folder), "a file outside the home was opened"
        assert not visit.foreign_processes() and not visit.connections()
        assert not [event for event in visit.events if event[0].startswith("pickle")]

    def chat(self, **body: Any) -> tuple[str, str, list[tuple[str, str]], bytes]:
        return "POST", "/v1/chat/completions", [HOST, KEY, JSON], json.dumps(TALK | body).encode()

    def upload(self, content: bytes, filename: str = "rows.jsonl", **fields: str) -> tuple[Any, ...]:
        kind, body = form({"purpose": "fine-tune"} | fields, filename, content)
        return "POST", "/v1/files", [HOST, KEY, kind], body


@pytest.fixture(scope="module")
def fort(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    folder = tmp_path_factory.mktemp("fort")
    outside = tmp_path_factory.mktemp("beyond") / "secret.txt"
    outside.write_bytes(PLANTED)
    base = save_tiny(tmp_path_factory.mktemp("base") / "model", "llama")
    house = Fort(zoo, folder, base, outside, outside.parent / "canary", [])
    warm = house.call("warm")
    assert warm.refused is None, warm.refused
    house.fields = warm.said
    yield house


def tree_of(folder: Path) -> str:
    """Return a hash of all names and bytes below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path}\0".encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def check_attack(fort: Fort, count: int | None, *, step: int = 50) -> int:
    before, sent = tree_of(fort.outside.parent), 0
    for first in range(0, len(fort.fields), step):
        given = {"outside": str(fort.outside), "canary": str(fort.canary), "first": first, "last": first + step}
        visit = fort.call("attack", count=count, **given)
        fort.expect_harmless(visit)
        assert not visit.said["count"], json.dumps(visit.said["wrong"], indent=1)
        sent += sum(visit.said["statuses"].values())
    assert tree_of(fort.outside.parent) == before
    return sent


def test_cve_2024_52803_output_dir_into_a_shell_and_2023_6976_2026_2033_2026_2614_2026_53995_traversal(
    fort: Fort,
) -> None:
    assert len(fort.fields) > 250
    assert check_attack(fort, A_FEW) >= A_FEW * len(fort.fields) * 0.9


@pytest.mark.proof
def test_every_payload_in_every_field(fort: Fort, record_property: Any) -> None:
    sent = check_attack(fort, None, step=10)
    record_property("claim", f"{sent:,} requests, every payload in every text of the API: nothing outside was opened")
    assert sent > 1000 * len(fort.fields) * 0.8


def test_llama_factory_eee6e6293_e110e4bb4_the_chat_fetches_no_address_and_no_file(fort: Fort) -> None:
    for address in (
        "http://127.0.0.1:9/x.png",
        f"file://{fort.outside}",
        "data:image/png;base64,AA",
        str(fort.outside),
    ):
        for part in (
            {"type": "image_url", "image_url": {"url": address}},
            {"type": "input_audio", "input_audio": {"data": address, "format": "wav"}},
            {"type": "file", "file": {"file_id": address}},
            {"type": "video_url", "video_url": {"url": address}},
        ):
            _, (answer,) = fort.send(fort.chat(messages=[{"role": "user", "content": [part]}]))
            assert answer[0] == 400 and "error" in json.loads(answer[2]), part
    wandb = {"type": "wandb", "wandb": {"project": "http://127.0.0.1:9/"}}
    body = {"model": "tiny", "training_file": "file-" + "a" * 24, "integrations": [wandb]}
    _, (answer,) = fort.send(("POST", "/v1/fine_tuning/jobs", [HOST, KEY, JSON], json.dumps(body).encode()))
    assert answer[0] in ALLOWED_4XX and json.loads(answer[2])["error"]["message"]


def test_cve_2025_12488_2026_35050_no_field_is_a_switch_a_setting_or_a_path(fort: Fort) -> None:
    names = (
        "trust_remote_code",
        "chat_template",
        "chat_template_kwargs",
        "settings",
        "extension",
        "lora_path",
        "config",
    )
    hello = [{"role": "user", "content": "hi"}]
    for name in names:
        for value in (True, "true", {"a": 1}, str(fort.outside), "{{ 1/0 }}"):
            _, (answer,) = fort.send(fort.chat(messages=hello, **{name: value}))
            assert answer[0] in (200, 400)
            if answer[0] == 400:
                assert name in json.loads(answer[2])["error"]["message"]


def test_cve_2026_115911_a_request_brings_no_template(fort: Fort) -> None:
    evil = animals.ESCAPES["init"].replace("CANARY", str(fort.canary))
    for extra in ({"chat_template": evil}, {"chat_template_kwargs": {"x": evil}}, {"template": evil}):
        _, (answer,) = fort.send(fort.chat(messages=[{"role": "user", "content": evil}], **extra))
        assert answer[0] in (200, 400)


TRAVERSALS = (
    "../../../../etc/passwd",
    "..\\..\\x",
    "/etc/passwd",
    "a/../../x",
    "x\x00.jsonl",
    ".",
    "..",
    "~/.ssh/id_rsa",
)


def test_cve_2023_51449_2024_1728_2024_47164_2026_28414_2026_49119_file_routes(fort: Fort) -> None:
    targets = []
    for name in (*TRAVERSALS, str(fort.outside), f"file={fort.outside}"):
        for coded in (name, name.replace("/", "%2f"), name.replace("/", "%252f"), name.replace(".", "%2e")):
            coded = coded.replace("\x00", "%00").replace("\\", "%5c").replace(" ", "%20")
            targets += [f"/v1/files/{coded}", f"/v1/files/{coded}/content", f"/v1/models/{coded}", f"/{coded}"]
            targets += [f"/file={coded}", f"/static/{coded}", f"/v1/fine_tuning/jobs/{coded}/events"]
    _, answers = fort.send(*(("GET", target, [HOST, KEY], b"") for target in targets))
    assert {answer[0] for answer in answers} <= {400, 404, 405}
    assert not [answer for answer in answers if PLANTED.decode() in answer[2] or "root:" in answer[2]]


@pytest.mark.parametrize("name", [*TRAVERSALS, "a" * 5000, 'x"; filename="y', "\u202egnp.exe", "", " ", "é" * 300])
def test_cve_2024_37032_a_file_name_is_only_shown(fort: Fort, name: str) -> None:
    _, ((status, _, body),) = fort.send(fort.upload(ROWS, filename=name))
    assert status in (200, 400), body
    if status == 200:
        file = json.loads(body)
        assert file["id"].startswith("file-") and len(file["id"]) == 29
        _, (content,) = fort.send(("GET", f"/v1/files/{file['id']}/content", [HOST, KEY], b""))
        assert content[2].encode("latin-1") == ROWS
        head = " ".join(f"{key}: {value}" for key, value in content[1].items())
        assert "\n" not in head and "\r" not in head


def test_cve_2024_28224_2024_37032_2024_45436_2026_103663_2026_108836_archives_digests_and_pulls(fort: Fort) -> None:
    packed = {
        "zip": b"PK\x03\x04" + b"\x00" * 100,
        "gzip": b"\x1f\x8b\x08" + b"\x00" * 100,
        "tar": b"../x".ljust(257, b"\0") + b"ustar\x0000",
        "parquet": b"PAR1" + b"\x00" * 100,
        "pickle": animals.pickled(fort.canary),
        "gguf": animals.GGUFS["pairs without end"],
        "safetensors": b"\xff" * 8 + b"{}",
        "onnx": b"\x08\x07\x12\x04test",
    }
    for name, content in packed.items():
        _, (answer,) = fort.send(fort.upload(content, filename=f"rows.jsonl.{name}"))
        assert answer[0] == 400, (name, answer)
    ids = ("sha256:" + "a" * 64, "sha256-" + "a" * 64, "../" * 5 + "x", "file-" + "A" * 24, "file-" + "a" * 25)
    for method, path in (("GET", "/v1/files/{}"), ("DELETE", "/v1/files/{}"), ("GET", "/v1/files/{}/content")):
        _, answers = fort.send(*((method, path.format(id.replace("/", "%2f")), [HOST, KEY], b"") for id in ids))
        assert {answer[0] for answer in answers} == {404}
    for path in ("/api/pull", "/api/create", "/api/blobs/sha256:" + "a" * 64, "/v1/models/pull"):
        _, (answer,) = fort.send(("POST", path, [HOST, KEY, JSON], b'{"model": "http://127.0.0.1:9/evil"}'))
        assert answer[0] in (404, 405)


def test_cve_2024_1727_2024_47084_2024_47165_uploads_by_foreign_pages(fort: Fort) -> None:
    method, target, headers, body = fort.upload(ROWS)
    own = ("origin", "http://127.0.0.1:8765")
    for foreign in (
        "http://evil.com",
        "null",
        "http://localhost:9",
        "https://127.0.0.1",
        "http://127.0.0.1:8765.evil.com",
    ):
        requests = [
            (method, target, [*headers, ("origin", foreign), *more], body) for more in ([], [("cookie", "a=b")])
        ]
        _, answers = fort.send(*requests, (method, target, [*headers, ("sec-fetch-site", "cross-site")], body))
        assert [answer[0] for answer in answers] == [403, 403, 403]
        assert all("access-control-allow-origin" not in answer[1] for answer in answers)
    _, (answer,) = fort.send((method, target, [*headers, own, ("sec-fetch-site", "same-origin")], body))
    assert answer[0] == 200


def test_cve_2025_62593_a_rebound_name_is_refused_on_every_route(fort: Fort) -> None:
    routes = {tuple(field.split(" ")[:2]) for field in fort.fields}
    requests = [
        (method, path.replace("{", "").replace("}", ""), [("host", host), KEY, ("user-agent", "curl/8")], b"")
        for method, path in sorted(routes)
        for host in ("evil.com", "evil.com:8765", "127.0.0.1.evil.com")
    ]
    _, answers = fort.send(*requests)
    assert {answer[0] for answer in answers} == {403} and len(answers) > 60


PART = b'--X\r\nContent-Disposition: form-data; name="%s"'
MULTIPART = {
    "an empty boundary": (b"--\r\n", ""),
    "another boundary": (b"--Y\r\n\r\nx\r\n--Y--", "X"),
    "no end": (PART % b"file" + b'; filename="a"\r\n\r\nx', "X"),
    "no disposition": (b"--X\r\nContent-Type: a\r\n\r\nx\r\n--X--\r\n", "X"),
    "nested": (
        PART % b"file" + b"\r\nContent-Type: multipart/mixed; boundary=Y\r\n\r\n"
        b"--Y\r\nContent-Disposition: file; filename=a\r\n\r\nx\r\n--Y--\r\n--X--\r\n",
        "X",
    ),
    "one huge header": (b"--X\r\nA: " + b"a" * 3_000_000 + b"\r\n\r\nx\r\n--X--\r\n", "X"),
    "many headers": (b"--X\r\n" + b"A: b\r\n" * 200_000 + b"\r\nx\r\n--X--\r\n", "X"),
    "many fields": ((PART % b"a" + b"\r\n\r\n\r\n") * 20_000 + b"--X--\r\n", "X"),
    "a field of 30 MB": (PART % b"purpose" + b"\r\n\r\n" + b"a" * 30_000_000 + b"\r\n--X--\r\n", "X"),
    "fields of 30 MB": ((PART % b"a" + b"\r\n\r\n" + b"a" * 1_000_000 + b"\r\n") * 30 + b"--X--\r\n", "X"),
    "many files": ((PART % b"file" + b'; filename="a"\r\n\r\n{}\r\n') * 3000 + b"--X--\r\n", "X"),
    "line breaks": (b"\r\n" * 2_000_000, "X"),
    "a long boundary": (b"--" + b"X" * 10_000 + b"--", "X" * 10_000),
}


@pytest.mark.parametrize("name", MULTIPART)
def test_cve_2024_47874_2025_54121_2025_62727_forms(fort: Fort, name: str) -> None:
    body, boundary = MULTIPART[name]
    kind = ("content-type", f"multipart/form-data; boundary={boundary}")
    visit, (answer,) = fort.send(("POST", "/v1/files", [HOST, KEY, kind], body))
    assert answer[0] in ALLOWED_4XX and json.loads(answer[2])["error"]["message"], answer
    assert min(visit.seconds, visit.wall_seconds) <= 2 and visit.growth_bytes <= 64 << 20, (
        visit.seconds,
        visit.growth_bytes,
    )


def test_cve_2025_62727_ranges_are_bounded(fort: Fort) -> None:
    _, ((_, _, body),) = fort.send(fort.upload(ROWS))
    target = f"/v1/files/{json.loads(body)['id']}/content"
    many = "bytes=" + ",".join(f"{start}-{start}" for start in range(3000))
    odd = ("bytes=0-0,-1", "bytes=-", "bytes=9-1", "bytes=0-" + "9" * 400, "lines=1-2", "bytes=" + ",-" * 2000)
    for ranges in (many, *odd):
        visit, (answer,) = fort.send(("GET", target, [HOST, KEY, ("range", ranges)], b""))
        assert answer[0] in (200, 206, 400, 416) and len(answer[2]) < 4 * len(ROWS) + 2000, (ranges[:20], answer[0])
        assert visit.seconds < 2


def test_two_files_in_one_form_are_one_file_or_none(fort: Fort) -> None:
    part = b'--X\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n'
    purpose = b'--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    body = purpose + part % (b"a", ROWS) + part % (b"../b", ROWS) + b"--X--\r\n"
    before = len(list((fort.folder / "home" / "files").iterdir()))
    kind = ("content-type", "multipart/form-data; boundary=X")
    _, (answer,) = fort.send(("POST", "/v1/files", [HOST, KEY, kind], body))
    assert answer[0] in (200, 400)
    assert len(list((fort.folder / "home" / "files").iterdir())) - before == (answer[0] == 200)


def test_a_form_keeps_little_in_memory(fort: Fort) -> None:
    good = form({"purpose": "fine-tune"}, "a.jsonl", ROWS)[1]
    fields = (PART % b"a" + b"\r\n\r\n" + b"a" * 1_000_000 + b"\r\n") * 100
    kind = ("content-type", "multipart/form-data; boundary=X")
    visit, (answer,) = fort.send(("POST", "/v1/files", [HOST, KEY, kind], fields + good))
    # The test's own copies of the body are five times its size.
    assert answer[0] == 400 or visit.growth_bytes <= 5 * len(fields), (answer[0], visit.growth_bytes)
    assert answer[0] == 400, "a form has a few short fields beside its file"


def test_d2_bombs_in_a_request_are_refused_in_time(fort: Fort) -> None:
    bombs = {
        "deep": b"[" * 5_000_000,
        "deep objects": b'{"a":' * 1_000_000,
        "wide": b"[" + b"[]," * 2_000_000 + b"[]]",
        "digits": b'{"n": ' + b"9" * 4_000_000 + b"}",
        "one long text": b'{"model": "' + b"a" * 7_000_000 + b'"}',
        "large": b" " * 40_000_000,
    }
    for name, body in bombs.items():
        visit, (answer,) = fort.send(("POST", "/v1/chat/completions", [HOST, KEY, JSON], body))
        assert answer[0] in (400, 404, 413), name
        assert visit.seconds <= 2 and visit.growth_bytes <= 256 << 20, (name, visit.seconds, visit.growth_bytes)


def test_a_packed_upload_is_no_training_file(fort: Fort, tmp_path: Path) -> None:
    bomb = animals.gzip_bomb(tmp_path / "bomb.jsonl.gz").read_bytes()
    table = animals.parquet_bomb(tmp_path / "bomb.parquet").read_bytes()
    for content in (bomb, table):
        visit, (answer,) = fort.send(fort.upload(content, filename="rows.jsonl"))
        assert answer[0] == 400 and visit.seconds <= 2 and visit.growth_bytes <= 256 << 20
    method, target, headers, body = fort.upload(bomb)
    _, (answer,) = fort.send((method, target, [*headers, ("content-encoding", "gzip")], body))
    assert answer[0] == 415
