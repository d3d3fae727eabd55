"""The guard before every route: who asks, from where, and how much; it covers what no route answers as well.

Pure ASGI and outermost, so that nothing behind it is reached without a key: no 404, no OpenAPI document, no metrics.
"""

import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from luthier.api.guard_body import JsonBody, Limits, StreamedBody, check_headers
from luthier.jobs.service.records import KeyRecord
from luthier.jobs.service.refusal import Refusal

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOG = logging.getLogger("luthier.api")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9]([a-z0-9._-]{0,252}))(:(?P<port>[0-9]{1,5}))?")
ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#@\s]{1,300})")
SECRET = re.compile(r"[!-~]{1,200}")
MAX_HEAD_BYTES = 32 << 10
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ADDED_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
DROPPED_HEADERS = (b"server", b"x-powered-by", b"x-request-id", *(name for name, _ in ADDED_HEADERS))

NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or in an api-key header. Make one with `luthier keys create`."
)
WRONG_KEY = "Incorrect API key provided. See `luthier keys list` for the keys that are valid."


class Guard:
    """Refuses foreign hosts and pages, requests without a key, and bodies that are too large or no strict JSON."""

    def __init__(
        self,
        app: App,
        *,
        check_key: Callable[[str], KeyRecord | None],
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        max_body_bytes: int,
        max_json_bytes: int = 8 << 20,
    ) -> None:
        """Guard `app`; `hosts` are names beside the loopback's, `origins` what browsers call a proxy in front of it."""
        self.app = app
        self.check_key = check_key
        self.hosts = {*LOOPBACK, *map(_in_header, hosts)}
        self.origins = {origin.lower() for origin in origins}
        self.limits = Limits(max_body_bytes, max_json_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "websocket":
            # No route speaks it, and browsers let any page open one.
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            await self._answer(scope, receive, _Reply(send))

    async def _answer(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        started = time.monotonic()
        scope["state"] = {**scope.get("state", {}), "request_id": reply.request_id}
        try:
            check_head(scope)
            headers = _Headers(scope["headers"])
            self._check_origin(headers, self._host(headers))
            scope["state"]["key"] = await self._key(headers)
            await self._pass_on(scope, headers, receive, reply)
        except Refusal as refusal:
            await reply.refuse(refusal)
        except Exception as error:  # noqa: BLE001 (the server would log its message, which may quote what was sent)
            if not reply.refused():
                fields = {"request_id": reply.request_id, "error": type(error).__name__, "at": _places(error)}
                LOG.error(json.dumps(fields))
            await reply.refuse(reply.refused() or _unforeseen(reply.request_id))
        finally:
            LOG.info(json.dumps(_log_fields(scope, reply, started)))

    async def _pass_on(self, scope: Scope, headers: "_Headers", receive: Receive, reply: "_Reply") -> None:
        kind = check_headers(headers.all, scope["method"], scope["path"], self.limits)
        if kind == "form":
            body = StreamedBody(receive, self.limits.body_bytes)
            reply.refused = lambda: body.refused
            await self.app(scope, body.receive, reply.send)
        else:
            whole = await JsonBody.read(receive, self.limits.json_bytes, kind)
            await self.app(scope, whole.receive, reply.send)
        if not reply.started:
            await reply.refuse(_unforeseen(reply.request_id))

    def _host(self, headers: "_Headers") -> str:
        """Return the host the client means to ask; a rebound DNS name shows here."""
        named = headers.all("host")
        found = AUTHORITY.fullmatch(named[0].lower()) if len(named) == 1 else None
        if found is None:
            raise Refusal("The request needs exactly one well-formed Host header.", code="invalid_host")
        if found["name"] not in self.hosts:
            message = "This name is not one of the server's. Ask it as localhost, or start it with --allow-host NAME."
            raise Refusal(message, status=403, code="host_not_allowed", kind="permission_error")
        return found[0]

    def _check_origin(self, headers: "_Headers", host: str) -> None:
        """Refuse what a browser sends for a page of another origin; programs send none of these headers."""
        origins, sites = headers.all("origin"), headers.all("sec-fetch-site")
        is_listed = len(origins) == 1 and origins[0].lower() in self.origins
        is_own = all(_is_same(origin, host) for origin in origins) and len(origins) <= 1
        is_near = all(site == "same-origin" for site in sites)
        if not is_listed and not (is_own and is_near):
            message = "Pages of other origins may not use this server."
            raise Refusal(message, status=403, code="origin_not_allowed", kind="permission_error")

    async def _key(self, headers: "_Headers") -> KeyRecord:
        """Return the key that asks; it is only ever taken from a header, and only where all that is sent agrees."""
        given = {*map(_bearer, headers.all("authorization")), *headers.all("api-key")} - {""}
        if not given:
            raise Refusal(NO_KEY, status=401)
        secret = given.pop()
        # A thread of its own: looking the key up may wait for the disk.
        known = not given and SECRET.fullmatch(secret) and await run_in_threadpool(self.check_key, secret)
        if not known:
            raise Refusal(WRONG_KEY, status=401, code="invalid_api_key")
        return known


def check_head(scope: Scope) -> None:
    """Refuse a request line that names another server or has control characters in it, and a head that is too long."""
    path = scope["path"]
    if len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
        message = f"The request's headers and query are longer than {MAX_HEAD_BYTES:,} bytes."
        raise Refusal(message, status=431, code="headers_too_large")
    raw = scope.get("raw_path") or b"/"
    if not path.startswith("/") or not raw.startswith(b"/") or any(ord(char) < 32 or char == "\x7f" for char in path):
        raise Refusal("The request's target is not a path of this server.", code="invalid_target")


def error_body(refusal: Refusal) -> bytes:
    """Return a refusal as the hosted service writes it."""
    fields = {"message": refusal.what, "type": refusal.kind, "param": refusal.param, "code": refusal.error_code}
    return json.dumps({"error": fields}).encode()


class _Headers:
    """A request's headers, as text, with every repeat."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = [(name.lower(), value.decode("latin-1").strip()) for name, value in raw]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name.encode()]


@dataclass
class _Reply:
    """What goes back: the same headers on all, and a refusal while reading in place of an answer."""

    out: Send
    refused: Callable[[], Refusal | None] = lambda: None
    status: int = 0
    started: bool = False
    dropped: bool = False
    request_id: str = ""

    def __post_init__(self) -> None:
        self.request_id = f"req_{secrets.token_hex(12)}"

    async def send(self, message: Message) -> None:
        """Pass on one message of the application."""
        if message["type"] == "http.response.start":
            refusal = self.refused()
            if refusal:
                await self.refuse(refusal)
                self.dropped = True
                return
            self.started, self.status = True, message["status"]
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        if not self.dropped:
            await self.out(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, unless an answer has begun."""
        if self.started:
            return
        body = error_body(refusal)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
        self.started, self.status = True, refusal.status
        await self.out({"type": "http.response.start", "status": self.status, "headers": self._headers(headers)})
        await self.out({"type": "http.response.body", "body": body})

    def _headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        kept = [(name, value) for name, value in headers if not _is_dropped(name.lower())]
        return [*kept, *ADDED_HEADERS, (b"x-request-id", self.request_id.encode())]


def _in_header(host: str) -> str:
    """Return a name or an address as a Host header writes it."""
    return f"[{host.lower()}]" if ":" in host and not host.startswith("[") else host.lower()


def _is_dropped(name: bytes) -> bool:
    return name in DROPPED_HEADERS or name.startswith(b"access-control-")


def _bearer(value: str) -> str:
    scheme, _, secret = value.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else value


def _is_same(origin: str, host: str) -> bool:
    """Tell whether an origin is the host that was asked; `null` and what is no http address is not."""
    found = ORIGIN.fullmatch(origin.lower())
    if found is None:
        return False
    port = {"http": ":80", "https": ":443"}[found["scheme"]]
    return found["authority"].removesuffix(port) == host.removesuffix(port)


def _unforeseen(request_id: str) -> Refusal:
    message = f"The server had an error while processing your request. Its log names the place under {request_id}."
    return Refusal(message, status=500, kind="server_error")


def _places(error: BaseException) -> list[str]:
    """Return where an error came from, without its message and without values."""
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-12:]]


def _log_fields(scope: Scope, reply: _Reply, started: float) -> dict[str, Any]:
    """Return the only things that are logged of a request: never its target, headers or body."""
    key, method = scope["state"].get("key"), scope["method"]
    return {
        "request_id": reply.request_id,
        "method": method if method in METHODS else "other",
        "route": getattr(scope.get("route"), "path", None),
        "status": reply.status,
        "ms": round((time.monotonic() - started) * 1000),
        "key": key.id if key else None,
    }
