"""One request to an ASGI application, byte for byte as the test writes it."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

KEY = "sk-ft-" + "a" * 40
HOST = ("host", "127.0.0.1:8765")
BEARER = ("authorization", f"Bearer {KEY}")
JSON = ("content-type", "application/json")
Headers = Iterable[tuple[str, str]]


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    closed: int | None = None
    """The code a websocket was closed with."""

    @property
    def error(self) -> dict[str, Any]:
        """The error of a refusal, in the hosted service's shape."""
        value = json.loads(self.body)
        assert set(value) == {"error"} and set(value["error"]) == {"message", "type", "param", "code"}, value
        return value["error"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(app: Any, method: str, target: str, headers: Headers = (), body: bytes | Iterable[bytes] = b"") -> Answer:
    """Send one request; `body` may come in parts, as a chunked one does."""
    return asyncio.run(_ask(app, _scope(method, target, headers), [body] if isinstance(body, bytes) else list(body)))


def with_key(app: Any, method: str, target: str, body: Any = None, key: str = KEY) -> Answer:
    """Send a JSON request as the official client does."""
    headers = [HOST, ("authorization", f"Bearer {key}"), JSON]
    return ask(app, method, target, headers, b"" if body is None else json.dumps(body).encode())


def form(fields: dict[str, str], filename: str, content: bytes, *, head: bytes = b"") -> tuple[tuple[str, str], bytes]:
    """Return the content type and the body of a form with one file; `head` is put into the file's headers as it is."""
    text = "".join(f'--X\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{v}\r\n' for key, v in fields.items())
    name = filename.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "%0D").replace("\n", "%0A")
    file = f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    body = text.encode() + file.encode("utf-8", "surrogatepass") + head + b"\r\n" + content + b"\r\n--X--\r\n"
    return ("content-type", "multipart/form-data; boundary=X"), body


def _scope(method: str, target: str, headers: Headers) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode("utf-8", "replace"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("utf-8", "replace")) for name, value in headers],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8765),
    }


async def _ask(app: Any, scope: dict[str, Any], parts: list[bytes]) -> Answer:
    answer, waiting = Answer(), list(parts)

    async def receive() -> dict[str, Any]:
        if not waiting:
            # The client keeps listening until it has its answer.
            await asyncio.sleep(30)
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status, "an answer begins once"
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "websocket.close":
            answer.closed = message["code"]
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer
