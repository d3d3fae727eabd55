"""The guard behind the real server, byte for byte: what parsers of HTTP are known to read in two ways."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from tests.api.test_guard import RECORD, App
from tests.zoo.asking import KEY

from luthier.api.guard import Guard

AUTH = f"Authorization: Bearer {KEY}\r\n"


@pytest.fixture(scope="module")
def app() -> App:
    return App()


@pytest.fixture(scope="module")
def address(app: App) -> Iterator[tuple[str, int]]:
    guard = Guard(app, check_key=lambda key: RECORD if key == KEY else None, max_body_bytes=100_000)
    config = uvicorn.Config(guard, port=0, log_level="error", server_header=False, lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[:2]
    server.should_exit = True
    thread.join()


def said(address: tuple[str, int], request: str | bytes, *, wait_s: float = 1.0) -> str:
    """Send bytes and return all that comes back until the server closes or is silent."""
    data = request.encode("latin-1") if isinstance(request, str) else request
    with socket.create_connection(address, timeout=wait_s) as line:
        with contextlib.suppress(OSError):
            line.sendall(data)
        heard = b""
        with contextlib.suppress(OSError):
            while part := line.recv(65536):
                heard += part
    return heard.decode("latin-1")


def statuses(text: str) -> list[int]:
    return [int(line.split()[1]) for line in text.split("\r\n") if line.startswith("HTTP/1.1 ")]


def get(host: str = "Host: localhost\r\n", *, target: str = "/v1/models", auth: str = AUTH, more: str = "") -> str:
    return f"GET {target} HTTP/1.1\r\n{host}{auth}{more}Connection: close\r\n\r\n"


def test_a_plain_request_passes(address: tuple[str, int]) -> None:
    heard = said(address, get())
    assert statuses(heard) == [200] and "\r\nserver:" not in heard.lower() and "x-request-id: req_" in heard


@pytest.mark.parametrize(
    "request_text",
    [
        get("Host: evil.com\r\n"),
        get("Host: localhost\r\nHost: evil.com\r\n"),
        get("Host: evil.com\r\nHost: localhost\r\n"),
        get(""),
        get("Host:\r\n"),
        get("Host: localhost\r\n\tevil.com\r\n"),
        get("Host : localhost\r\n"),
        get("Host: localhost\x0b.evil.com\r\n"),
        get(target="http://evil.com/v1/models"),
        get("Host: evil.com\r\n", target="http://localhost/v1/models"),
        get(target="http://localhost@evil.com/v1/models"),
        get(target="*"),
        get(target="/v1/%00models"),
        "CONNECT evil.com:443 HTTP/1.1\r\nHost: localhost\r\n" + AUTH + "\r\n",
        get().replace("HTTP/1.1", "HTTP/1.0").replace("Host: localhost\r\n", ""),
        get(target="/v1/models?a=" + "a" * 40_000),
        get(more="Origin: null\r\n"),
        get(more="Origin: http://localhost\r\nOrigin: http://evil.com\r\n"),
        get(auth=""),
        get(auth="", target=f"/v1/models?api-key={KEY}"),
        get(auth="Authorization: Bearer\r\n"),
        get(auth=AUTH + "Authorization: Bearer x\r\n"),
        get(more="X: " + "a" * 70_000 + "\r\n"),
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /v1/models\r\n\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(address: tuple[str, int], app: App, request_text: str) -> None:
    before = len(app.seen)
    heard = said(address, request_text)
    assert all(400 <= status < 500 for status in statuses(heard)) and len(app.seen) == before, heard[:200]
    assert KEY not in heard


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 2\r\nContent-Length: 30\r\n",
        "Content-Length: 2, 30\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
    ],
)
def test_a_request_is_not_smuggled_behind_another(address: tuple[str, int], app: App, framing: str) -> None:
    before = len(app.seen)
    inner = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n" + AUTH + "\r\n"
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    said(address, head + AUTH + framing + "\r\n" + "{}" + inner)
    assert "/smuggled" not in [scope["path"] for scope in app.seen[before:]]


def test_a_body_is_not_read_before_the_key_is_known(address: tuple[str, int]) -> None:
    head = "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
    heard = said(address, head + "Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n", wait_s=2)
    assert statuses(heard) == [401], "the client is not asked to go on"


def test_a_chunked_body_without_end_is_cut_off(address: tuple[str, int]) -> None:
    head = "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
    chunk = "ffff\r\n" + "a" * 0xFFFF + "\r\n"
    assert statuses(said(address, head + AUTH + "Transfer-Encoding: chunked\r\n\r\n" + chunk * 4)) == [413]


def test_the_server_logs_no_key_and_no_target(address: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        said(address, get(target=f"/v1/planted?q={KEY}"))
        said(address, get(auth="Authorization: Bearer planted-key\r\n"))
        said(address, f"GET /planted HTTP/1.1\r\nHost: localhost\r\nA: {'planted' * 20_000}\r\n\r\n")
    assert "planted" not in caplog.text and KEY not in caplog.text and "request_id" in caplog.text
