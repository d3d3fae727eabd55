"""The guard: every mix of host, origin, content type and method; keys; sizes; what is logged and what never is."""

import asyncio
import itertools
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.zoo.asking import BEARER, HOST, JSON, KEY, Answer, ask, form

from luthier.api.guard import Guard
from luthier.jobs.service.records import KeyRecord

RECORD = KeyRecord(id="key_1", created_at=0, name="n", last4="aaaa", project_id="p", admin=False)
BODY_BYTES, JSON_BYTES = 200_000, 100_000
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
TYPES = (None, "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=X")
PATHS = ("/v1/files", "/v1/models", "/metrics", "/openapi.json", "/nothing", "/")
OWN_HOSTS = ("localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]", "[::1]:8765", "my-box.lan:8765", "[2001:db8::1]:1")
FOREIGN_HOSTS = (
    *("evil.com", "evil.com:8765", "127.0.0.1.evil.com", "localhost.evil.com", "localhost.", "127.0.0.2", "0.0.0.0"),
    *("2130706433", "0x7f.1", "127.1", "[::]", "[::ffff:127.0.0.1]", "169.254.169.254", "my-box.lan.evil.com"),
)
BROKEN_HOSTS = (
    *("", " ", "localhost:8765@evil.com", "evil.com#localhost", "localhost:", "localhost:a", "localhost:123456"),
    *("localhost/evil", "localhost evil.com", "localhost,evil.com", "http://localhost", "[::1", "::1", "löcalhost"),
    *("localhost:8765:8765", "localhost\x00", "user@localhost", "a" * 300),
)
FOREIGN_ORIGINS = (
    *(
        "null",
        "http://evil.com",
        "https://evil.com",
        "http://127.0.0.1",
        "http://127.0.0.1:9999",
        "http://localhost:8765",
    ),
    *("http://127.0.0.1:8765.evil.com", "http://evil.com/127.0.0.1:8765", "http://127.0.0.1:8765@evil.com", "", "*"),
    *("file://", "chrome-extension://abc", "http://127.0.0.1:8765/", "127.0.0.1:8765", "ftp://127.0.0.1:8765"),
    *("http://127.0.0.1:8765, http://evil.com", "http://evil.com http://127.0.0.1:8765"),
)


class App:
    """What lies behind the guard: it keeps what reaches it, and reads the body as a framework does."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.reply_headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": self.reply_headers})
        await send({"type": "http.response.body", "body": b"ok"})


class Keys:
    """Counts how often a key is looked up."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, secret: str) -> KeyRecord | None:
        self.asked.append(secret)
        return RECORD if secret == KEY else None


def guarded(app: Any = None, keys: Callable[[str], KeyRecord | None] | None = None) -> Guard:
    return Guard(
        App() if app is None else app,
        check_key=keys or Keys(),
        hosts=["My-Box.lan", "2001:DB8::1"],
        origins=["https://ai.example.com"],
        max_body_bytes=BODY_BYTES,
        max_json_bytes=JSON_BYTES,
    )


def asked(guard: Guard, *headers: tuple[str, str], method: str = "GET", path: str = "/v1/models", body: Any = b""):
    return ask(guard, method, path, headers, body)


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_own_names_pass_on_any_port(host: str) -> None:
    assert asked(guarded(), ("host", host), BEARER).status == 200


@pytest.mark.parametrize("host", [*FOREIGN_HOSTS, *BROKEN_HOSTS])
def test_foreign_and_broken_hosts_are_refused(host: str) -> None:
    app = App()
    answer = asked(guarded(app), ("host", host), BEARER)
    assert answer.status == (403 if host in FOREIGN_HOSTS else 400) and answer.error["code"] and not app.seen


def test_a_request_has_exactly_one_host() -> None:
    for hosts in ([], [HOST, HOST], [HOST, ("host", "evil.com")], [("host", "evil.com"), HOST]):
        assert asked(guarded(), *hosts, BEARER).status == 400


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_foreign_origins_are_refused(origin: str) -> None:
    app = App()
    for site in ([], [("sec-fetch-site", "same-origin")], [("sec-fetch-site", "cross-site")]):
        answer = asked(guarded(app), HOST, BEARER, ("origin", origin), *site)
        assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert not app.seen


def test_pages_of_the_same_origin_pass() -> None:
    for origin, host in (
        ("http://127.0.0.1:8765", "127.0.0.1:8765"),
        ("HTTP://LocalHost:8765", "localhost:8765"),
        ("http://localhost", "localhost:80"),
        ("https://my-box.lan", "my-box.lan"),
        ("http://[::1]:8765", "[::1]:8765"),
        ("https://ai.example.com", "127.0.0.1:8765"),
    ):
        site = "cross-site" if "example" in origin else "same-origin"
        answer = asked(guarded(), ("host", host), BEARER, ("origin", origin), ("sec-fetch-site", site))
        assert answer.status == 200, origin


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "", "same-origin, cross-site", "Same-Origin "])
def test_other_sites_are_refused_without_an_origin_too(site: str) -> None:
    expected = 200 if site == "same-origin" else 403
    assert asked(guarded(), HOST, BEARER, ("sec-fetch-site", site)).status == expected
    twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]
    assert asked(guarded(), HOST, BEARER, *twice).status == 403
    assert asked(guarded(), HOST, BEARER, ("origin", "http://127.0.0.1:8765"), ("origin", "null")).status == 403


def matrix() -> list[tuple[str, str | None, str | None, str, str]]:
    """Return host × origin × content type × method × path: what a hostile page can make a browser send."""
    hosts = ("127.0.0.1:8765", "evil.com:8765", "127.0.0.1.evil.com")
    origins = (None, "http://127.0.0.1:8765", "http://evil.com", "null", "http://evil.com:8765")
    return list(itertools.product(hosts, origins, TYPES, METHODS, PATHS))


def test_the_whole_matrix() -> None:
    app = App()
    guard, wrong = guarded(app), []
    for host, origin, kind, method, path in matrix():
        headers = [("host", host), BEARER]
        headers += [("origin", origin)] if origin else []
        headers += [("content-type", kind)] if kind else []
        before, answer = len(app.seen), ask(guard, method, path, headers)
        is_own = host == "127.0.0.1:8765" and origin in (None, "http://127.0.0.1:8765")
        reached = len(app.seen) > before
        if reached != is_own or answer.status != (200 if is_own else 403):
            wrong.append((host, origin, kind, method, path, answer.status))
    assert not wrong and len(matrix()) > 4000


def test_nothing_is_reached_without_a_key() -> None:
    app = App()
    guard = guarded(app)
    for method, path in itertools.product(METHODS, PATHS):
        answer = ask(guard, method, path, [HOST])
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.error["message"].startswith("You didn't provide an API key.")
        wrong = ask(guard, method, path, [HOST, ("authorization", "Bearer sk-ft-wrong")])
        assert (wrong.status, wrong.error["code"]) == (401, "invalid_api_key") and "sk-ft-wrong" not in str(wrong.body)
    assert not app.seen


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {KEY}")],
        [("authorization", f"bearer  {KEY}")],
        [("api-key", KEY)],
        [("api-key", KEY), ("authorization", f"Bearer {KEY}")],
    ],
)
def test_both_ways_to_send_a_key(headers: list[tuple[str, str]]) -> None:
    app = App()
    assert asked(guarded(app), HOST, *headers).status == 200
    assert app.seen[0]["state"]["key"] is RECORD


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", KEY + "x")],
        [("authorization", f"Basic {KEY}")],
        [("authorization", f"Bearer {KEY} {KEY}")],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer other")],
        [("api-key", KEY), ("authorization", "Bearer other")],
        [("api-key", "")],
        [("api-key", "ключ")],
        [("api-key", "x" * 5000)],
        [("x-api-key", KEY)],
        [("cookie", f"api-key={KEY}")],
        [("proxy-authorization", f"Bearer {KEY}")],
    ],
)
def test_no_other_way_to_send_a_key(headers: list[tuple[str, str]]) -> None:
    assert asked(guarded(), HOST, *headers).status == 401


@pytest.mark.parametrize("name", ["api-key", "api_key", "key", "token", "access_token", "authorization"])
def test_a_key_in_the_query_is_no_key(name: str) -> None:
    assert asked(guarded(), HOST, path=f"/v1/models?{name}={KEY}").status == 401


def test_a_key_is_compared_in_one_place_only_and_whole() -> None:
    keys = Keys()
    for secret in (KEY, KEY[:-1] + "b", "b" + KEY[1:], "x"):
        asked(guarded(keys=keys), HOST, ("api-key", secret))
    assert keys.asked == [KEY, KEY[:-1] + "b", "b" + KEY[1:], "x"], "the guard compares nothing by itself"


@pytest.mark.parametrize(
    "target", ["http://evil.com/v1/models", "evil.com:443", "*", "/v1/%00", "/v1/a%0d%0ab", "/%7f"]
)
def test_a_target_is_a_path(target: str) -> None:
    answer = asked(guarded(), HOST, BEARER, path=target)
    assert (answer.status, answer.error["code"]) == (400, "invalid_target")


def test_a_head_is_not_long() -> None:
    for request in ({"path": "/v1/models?a=" + "a" * 40_000}, {}):
        long = [] if request else [(f"x-{number}", "a" * 100) for number in range(400)]
        answer = asked(guarded(), HOST, BEARER, *long, **request)
        assert (answer.status, answer.error["code"]) == (431, "headers_too_large")


def test_websockets_are_closed() -> None:
    app, closed = App(), []

    async def send(message: dict[str, Any]) -> None:
        closed.append(message)

    asyncio.run(guarded(app)({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert closed == [{"type": "websocket.close", "code": 1008}] and not app.seen


def posted(body: Any, *headers: tuple[str, str], path: str = "/v1/chat/completions", app: App | None = None) -> Answer:
    return asked(guarded(app or App()), HOST, BEARER, *headers, method="POST", path=path, body=body)


def test_a_json_body_arrives_as_it_was_sent() -> None:
    for body in (b'{"a": [1, "x\\u00e9\\ud83d\\ude00"]}', b"", b"null", b" [] "):
        app = App()
        parts = [body[:3], body[3:]]
        assert posted(parts, JSON, app=app).status == 200 and app.bodies == [body]
    assert posted(b"{}", ("content-type", "application/json; charset=utf-8")).status == 200


BAD_JSON = {
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": -Infinity}',
    "too large": b'{"temperature": 1e999}',
    "digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "twice": b'{"model": "a", "model": "b"}',
    "surrogate": b'{"model": "\\ud800"}',
    "deep": b"[" * 100 + b"]" * 100,
    "deep and open": b"[" * 50_000,
    "deep objects": b'{"a":' * 20_000,
    "deep in a string end": b'"' + b'\\"' * 40_000,
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-32": '{"a": 1}'.encode("utf-32-le"),
    "BOM": b"\xef\xbb\xbf{}",
    "cut": b'{"a": ',
    "two": b"{}{}",
    "control": b'{"a": "\x01"}',
    "words": b"hello",
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_is_none_is_refused_at_the_door(body: bytes) -> None:
    app = App()
    answer = posted(body, JSON, app=app)
    assert answer.status == 400 and answer.error["message"].startswith("We could not parse the JSON body")
    assert answer.error["type"] == "invalid_request_error" and not app.seen


def test_json_bombs_are_refused_fast_at_the_largest_size() -> None:
    guard = Guard(App(), check_key=Keys(), max_body_bytes=1, max_json_bytes=8 << 20)
    for unit in (b"[", b"{", b'{"a":', b"[],", b'"', b'\\"', b'"a",', b"1,", b"\xff", b" "):
        body = (b"[" + unit * (8 << 20))[: 8 << 20]
        started = time.monotonic()
        answer = ask(guard, "POST", "/v1/chat/completions", [HOST, BEARER, JSON], body)
        assert answer.status == 400 and time.monotonic() - started < 2, unit


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "application/json"])
def test_a_page_cannot_send_a_simple_request_with_a_body(kind: str | None) -> None:
    headers = [("content-type", kind)] if kind else []
    app = App()
    assert posted(b'{"a": 1}', *headers, app=app).status == 415
    assert posted([b"", b'{"a": 1}'], *headers, ("content-length", "8"), app=app).status == 415
    assert not app.seen
    assert posted(b"", *headers).status == 200, "a type without a body does no harm"


def test_packed_bodies_are_refused() -> None:
    for coding in ("gzip", "br", "deflate", "identity, gzip"):
        assert posted(b"\x1f\x8b", JSON, ("content-encoding", coding)).status == 415
    assert posted(b"{}", JSON, ("content-encoding", "identity")).status == 200


@pytest.mark.parametrize(("path", "limit"), [("/v1/files", BODY_BYTES), ("/v1/chat/completions", JSON_BYTES)])
def test_a_body_is_limited_by_what_it_says_and_by_what_it_is(path: str, limit: int) -> None:
    kind = form({}, "a", b"")[0] if path == "/v1/files" else JSON
    app = App()
    said = posted(b"{}", kind, ("content-length", str(limit + 1)), path=path, app=app)
    streamed = posted([b" " * 9_999] * (limit // 9_999 + 1), kind, path=path, app=app)
    for answer in (said, streamed):
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert all(len(body) <= limit for body in app.bodies)
    fitting = posted(b" " * (limit - 2) + b"{}", kind, path=path)
    assert fitting.status == 200


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "0x1", "1 1", "", "9" * 30, "nan"])
def test_a_length_is_a_number(length: str) -> None:
    assert posted(b"{}", JSON, ("content-length", length)).status == 400


def test_an_app_that_reads_on_after_the_limit_fails_as_too_large() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise RuntimeError("the client has gone")

    kind, _ = form({}, "a", b"")
    answer = asked(guarded(fails), HOST, BEARER, kind, method="POST", path="/v1/files", body=[b" " * 60_000] * 5)
    assert answer.status == 413


def test_a_form_is_taken_only_where_a_file_is() -> None:
    kind, body = form({"purpose": "fine-tune"}, "a.jsonl", b"{}")
    for path in ("/v1/files", "/openai/files", "/v1/uploads/upload_1/parts", "/openai/v1/files"):
        assert posted(body, kind, path=path).status == 200
    for path in ("/v1/models", "/v1/files/file-1", "/v1/uploads", "/v1/uploads/a/b/parts/x", "/v1/fine_tuning/jobs"):
        assert posted(body, kind, path=path).status == 415


def test_every_reply_has_the_same_headers_and_no_banner() -> None:
    app = App()
    app.reply_headers = [
        (b"Server", b"uvicorn"),
        (b"Access-Control-Allow-Origin", b"*"),
        (b"cache-control", b"public"),
        (b"x-request-id", b"theirs"),
        (b"content-type", b"text/plain"),
    ]
    replies = [asked(guarded(app), HOST, BEARER), asked(guarded(), HOST), asked(guarded(), ("host", "evil.com"))]
    for reply in replies:
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-request-id"].startswith("req_") and len(reply.headers["x-request-id"]) == 28
        assert not [name for name in reply.headers if name == "server" or name.startswith("access-control")]
    assert replies[0].headers["content-type"] == "text/plain"
    assert len({reply.headers["x-request-id"] for reply in replies}) == 3


def test_an_unforeseen_error_is_told_and_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("the prompt was: planted-secret")

    with caplog.at_level(logging.INFO, "luthier.api"):
        answer = asked(guarded(breaks), HOST, BEARER)
    assert (answer.status, answer.error["type"]) == (500, "server_error")
    assert "planted-secret" not in str(answer.body) + caplog.text
    assert "ValueError" in caplog.text and "test_guard.py:" in caplog.text
    assert answer.headers["x-request-id"] in answer.error["message"] and answer.headers["x-request-id"] in caplog.text


def test_an_app_that_says_nothing_is_an_error() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    assert asked(guarded(silent), HOST, BEARER).status == 500


def test_one_line_is_logged_with_allowed_fields_only(caplog: pytest.LogCaptureFixture) -> None:
    class Route:
        path = "/v1/files/{file_id}"

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Route()
        await App()(scope, receive, send)

    with caplog.at_level(logging.INFO, "luthier.api"):
        headers = [HOST, BEARER, JSON, ("user-agent", "planted-agent"), ("x-planted", "planted-header")]
        ask(guarded(routed), "POST", "/v1/files/planted-id?planted=query", headers, b'{"prompt": "planted-prompt"}')
        ask(guarded(), "PLANTED", "/planted-path", [HOST, BEARER])
        ask(guarded(), "GET", "/planted-path", [HOST, ("authorization", "Bearer planted-key")])
    lines = [json.loads(record.message) for record in caplog.records]
    assert [set(line) for line in lines] == [{"request_id", "method", "route", "status", "ms", "key"}] * 3
    assert [line["route"] for line in lines] == ["/v1/files/{file_id}", None, None]
    assert [line["key"] for line in lines] == ["key_1", "key_1", None]
    assert [line["status"] for line in lines] == [200, 200, 401] and lines[1]["method"] == "other"
    assert "planted" not in caplog.text.lower() and KEY not in caplog.text
