"""How much a request may send, and as what: strict JSON read whole, or a file in a form, counted while it streams."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool

from luthier.data.rows import RowError
from luthier.data.sources.strict_json import parse
from luthier.jobs.service.refusal import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Kind = Literal["json", "form"]

FORM_ROUTES = re.compile(r".*/(files|uploads/[^/]+/parts)/?")
"""Where a file arrives as a form; elsewhere a form would be read into memory whole."""
JSON_TYPE = re.compile(r'application/json *(; *charset="?utf-?8"?)? *;?', re.IGNORECASE)
FORM_TYPE = re.compile(r"multipart/form-data *;.*", re.IGNORECASE)
MAX_VALUES = 500_000
"""Commas and opening brackets of a JSON body: each can become an object many times its size."""
NOT_JSON = "We could not parse the JSON body of your request"


@dataclass(frozen=True)
class Limits:
    """What a body may hold."""

    body_bytes: int
    """A form with a file."""
    json_bytes: int


def check_headers(headers: Callable[[str], list[str]], method: str, path: str, limits: Limits) -> Kind | None:
    """Return what the body must be (None: empty); refuse what the headers tell to be too large or something else."""
    types, lengths = headers("content-type"), headers("content-length")
    if len(types) > 1 or len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", length) for length in lengths):
        raise Refusal("The request's Content-Type or Content-Length is not well-formed.")
    if any(coding.lower() != "identity" for coding in headers("content-encoding")):
        raise Refusal("Packed bodies are not read; send it without Content-Encoding.", status=415)
    length, kind = int(lengths[0]) if lengths else 0, _kind(types, method, path)
    limit = limits.body_bytes if kind == "form" else limits.json_bytes
    if length > limit:
        raise too_large(limit)
    if kind is None and length:
        raise unsupported()
    return kind


def too_large(limit: int) -> Refusal:
    """Return the refusal of a body over its limit."""
    return Refusal(f"The request's body is larger than {limit:,} bytes.", status=413, code="request_too_large")


def unsupported() -> Refusal:
    """Return the refusal of a body that is neither JSON nor a file for a route that takes one."""
    message = (
        "Unsupported content type. This API method only accepts 'application/json' requests, "
        "and 'multipart/form-data' where a file is sent."
    )
    return Refusal(message, status=415, code="unsupported_content_type")


def check_json(body: bytes) -> None:
    """Refuse what Python's parser lets pass or trips over: it would come back as an error of some deeper part."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise Refusal(f"{NOT_JSON}: it holds too many values.")
    try:
        parse(body.decode())
    except UnicodeDecodeError as error:
        raise Refusal(f"{NOT_JSON}: it is not UTF-8 at byte {error.start + 1}.") from error
    except RowError as error:
        raise Refusal(f"{NOT_JSON}: {error.reason}.") from error


class JsonBody:
    """A body that was read whole and checked; the application receives it in one piece."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    @classmethod
    async def read(cls, receive: Receive, limit: int, kind: Kind | None) -> "JsonBody":
        """Read at most `limit` bytes, however they arrive; of another kind than JSON, nothing at all is taken."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Refusal("The client has gone before its request was whole.")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                raise too_large(limit)
            if body and kind is None:
                raise unsupported()
        if body:
            await run_in_threadpool(check_json, bytes(body))
        return cls(bytes(body), receive)

    async def receive(self) -> Message:
        """Give the body once, and then whatever the server says, such as that the client has gone."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class StreamedBody:
    """A body that is counted while the application reads it."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._read = 0
        self.refused: Refusal | None = None

    async def receive(self) -> Message:
        """Give the next part; over the limit the client seems gone, which every application can handle."""
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            self.refused = too_large(self._limit)
            return {"type": "http.disconnect"}
        return message


def _kind(types: list[str], method: str, path: str) -> Kind | None:
    if types and JSON_TYPE.fullmatch(types[0]):
        return "json"
    if types and FORM_TYPE.fullmatch(types[0]) and method == "POST" and FORM_ROUTES.fullmatch(path):
        return "form"
    # A client may name another type and send nothing.
    return None
