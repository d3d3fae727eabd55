"""The server as a person starts, asks and stops it."""

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import openai
import pytest
from tests.cli.serving import own, serving
from tests.cli.tiny_run import COMMAND, luthier

from luthier.cli import serve
from luthier.cli.serve import check_installed, check_tls, is_loopback
from luthier.core.errors import RecipeError

LOOPBACK = ("127.0.0.1", "127.8.9.1", "::1", "localhost")
BEYOND = ("0.0.0.0", "::", "192.168.1.2", "example.org", "")
BIG = 96 << 20
GROWTH = 20 << 20


class Life(NamedTuple):
    """A server that was just started for the first time."""

    folder: Path
    address: str
    key: str
    pid: int


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, cwd=folder, env=own(folder), capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for localhost and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["openssl", "req", *words, *names, "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(made, check=True, capture_output=True)
    return files


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("life")
    with serving(folder) as server:
        address = server.address()
        yield Life(folder, address, server.first_key(), server.process.pid)


def test_the_first_start_shows_a_key_that_opens_the_door(life: Life) -> None:
    folder, address, key, _ = life
    assert re.fullmatch(r"sk-ft-[\w-]{51}", key) and re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", address)
    client = openai.OpenAI(base_url=address, api_key=key, max_retries=0)
    assert [model.id for model in client.models.list()] == ["smollm2-135m-instruct"]
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=address, api_key="sk-other", max_retries=0).models.list()
    assert (folder / "home").stat().st_mode & 0o777 == 0o700


def test_keys_made_and_revoked_beside_it_count_at_once(life: Life) -> None:
    folder, address, *_ = life
    made = json.loads(run(folder, "keys", "create", "second", "--project", "two", "--json").stdout)
    client = openai.OpenAI(base_url=address, api_key=made["secret"], max_retries=0)
    assert client.files.list().data == []
    assert run(folder, "keys", "revoke", made["id"]).returncode == 0
    with pytest.raises(openai.AuthenticationError):
        client.files.list()


def test_a_second_server_in_the_home_is_one_error(life: Life) -> None:
    second = run(life.folder, "serve", "--port", "0")
    assert second.returncode == 6 and second.stdout == ""
    assert second.stderr.startswith("error: another server works in this home\n  home    ")
    assert "Traceback" not in second.stderr and "hint: stop it, or choose another home" in second.stderr


def test_a_port_in_use_is_one_error(life: Life, tmp_path: Path) -> None:
    port = life.address.split(":")[2].split("/")[0]
    second = run(tmp_path, "serve", "--port", port)
    assert second.returncode == 6 and "Traceback" not in second.stderr
    assert (
        f"error: the server cannot listen here\n  address 127.0.0.1:{port}\n  why     Address already in"
        in second.stderr
    )


def test_a_large_file_is_not_held_in_memory(life: Life) -> None:
    folder, address, key, _ = life
    line = json.dumps({"messages": [{"role": "user", "content": "a" * 60_000}]}).encode() + b"\n"
    path = folder / "big.jsonl"
    path.write_bytes(line * (BIG // len(line)))
    client = openai.OpenAI(base_url=address, api_key=key, max_retries=0)
    small = client.files.create(file=("a.jsonl", line), purpose="fine-tune")
    assert client.files.content(small.id).read() == line
    before = peak(life)
    with path.open("rb") as file:
        made = client.files.create(file=file, purpose="fine-tune")
    with client.files.with_streaming_response.content(made.id) as reply:
        assert sum(map(len, reply.iter_bytes())) == made.bytes == path.stat().st_size
    assert peak(life) - before < GROWTH


def peak(life: Life) -> int:
    """Return the most memory that the server has used, in bytes."""
    status = Path(f"/proc/{life.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_told_to_stop_does_so_gently(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as server:
        address, key = server.address(), server.first_key()
        secret = "planted-7311"
        with httpx2.Client(trust_env=False, headers={"authorization": f"Bearer {key}"}) as client:
            assert client.get(f"{address}/files?after={secret}").status_code == 404
        said = server.stop(number)
        assert server.process.returncode == 0 and "Traceback" not in said
        assert said.endswith("stopped; jobs under way go on at the next start\n")
        told = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        assert [(one["route"], one["status"]) for one in told] == [("/files", 404)] and secret not in said
    with serving(tmp_path) as again:
        assert again.address()
        again.stop()
        assert again.first_key() == "", "a key is shown once"


def test_tls(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    words = ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]
    with serving(tmp_path, *words) as server:
        address, key = server.address(), server.first_key()
        assert address.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(pair[0]))
        with httpx2.Client(verify=trusted, trust_env=False) as client:
            reply = client.get(f"{address}/models", headers={"api-key": key})
            assert reply.status_code == 200
            with pytest.raises(httpx2.HTTPError):
                client.get(address.replace("https", "http"))


def test_half_a_pair_and_wrong_files_are_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "no.pem").write_text("no")
    certificate, key = pair
    wrong = (certificate, None), (None, key), (certificate, tmp_path / "none"), (tmp_path / "no.pem", key)
    for one in (*wrong, (key, certificate)):
        with pytest.raises(RecipeError) as refused:
            check_tls(*one)
        assert refused.value.hint
    check_tls(certificate, key)
    check_tls(None, None)


def test_beyond_this_machine_there_must_be_a_key_and_a_private_way(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    for more in ([], ["--behind-proxy"]):
        refused = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", *more)
        assert refused.returncode == 2 and refused.stdout == "" and "there is no key" in refused.stderr
        assert "hint: make one first: `luthier keys create NAME`" in refused.stderr
    key = run(tmp_path, "keys", "create", "first").stdout.strip()
    refused = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2 and "keys would cross the network in the clear" in refused.stderr
    with serving(tmp_path, "--host", "0.0.0.0", "--behind-proxy", "--allow-host", "models.example.org") as server:
        port = server.address().split(":")[2].split("/")[0]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, headers={"api-key": key}) as client:
            names = {"models.example.org": 200, f"models.example.org:{port}": 200, "evil.example": 403}
            names[socket.gethostname()] = 200
            for name, status in names.items():
                assert client.get("/v1/models", headers={"host": name}).status_code == status, name


def test_a_revoked_key_is_no_key(tmp_path: Path) -> None:
    made = json.loads(run(tmp_path, "keys", "create", "first", "--json").stdout)
    run(tmp_path, "keys", "revoke", made["id"])
    refused = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", "--behind-proxy")
    assert refused.returncode == 2 and "there is no key" in refused.stderr


@pytest.mark.parametrize("words", [["serve", "--port", "0"], ["keys", "list"], ["deployments", "list"]])
def test_a_home_that_cannot_be_is_one_error(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").write_text("")
    refused = run(tmp_path, *words, "--home", str(tmp_path / "file" / "home"))
    assert refused.returncode == 6 and refused.stdout == ""
    assert refused.stderr.startswith("error: ") and "Traceback" not in refused.stderr
    assert refused.stderr.count("\n") <= 4


def test_settings_that_are_wrong_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "service.yaml").write_text("organization: luthier\njobs_at_one: 2\n")
    refused = run(tmp_path, "serve", "--port", "0")
    assert refused.returncode == 2 and "unknown key `jobs_at_one`" in refused.stderr
    assert "hint: did you mean `jobs_at_once`?" in refused.stderr


def test_without_the_extra_there_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "NEEDED", ("fastapi", "a_library_that_is_not_there"))
    with pytest.raises(RecipeError) as refused:
        check_installed()
    assert "a_library_that_is_not_there is missing" in str(refused.value)
    assert refused.value.hint == "pip install 'luthier[serve]'"


def test_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, LOOPBACK)) and not any(map(is_loopback, BEYOND))


def test_help_loads_no_server(tmp_path: Path) -> None:
    for words in (["serve", "--help"], ["keys", "--help"], ["deployments", "create", "--help"]):
        assert luthier(tmp_path, *words).returncode == 0
    code = (
        "import sys; from luthier.cli import app; print([n for n in ('fastapi', 'uvicorn', 'ssl') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
