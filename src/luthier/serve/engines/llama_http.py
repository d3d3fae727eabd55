"""What is said to llama.cpp's server over HTTP, and what it says back."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from luthier.serve.engines.llama_child import Child
from luthier.serve.request import EngineError

SILENCE_S = 600
"""A long prompt is read in silence; the server writes a line every 30 seconds while it streams."""
LONGEST_REASON = 200
Json = dict[str, Any]


@dataclass(frozen=True)
class Caller:
    """Asks one child; each question has a connection of its own, so that ending it cancels only that."""

    child: Child

    def ask(self, path: str, body: Json | None, on_open: Callable[[Callable[[], None]], None] | None = None) -> Any:
        """Return what the server answers; without a body, it is only read."""
        with self._open(path, body, on_open) as reply:
            return _parsed(reply.read())

    def stream(self, path: str, body: Json, on_open: Callable[[Callable[[], None]], None]) -> Iterator[Json]:
        """Yield what the server sends, event by event."""
        with self._open(path, body, on_open) as reply:
            while line := reply.readline():
                if line.startswith(b"data: "):
                    yield _parsed(line.removeprefix(b"data: "))
                elif line.startswith(b"error: "):
                    raise _failure(_parsed(line.removeprefix(b"error: ")), "an error")

    @contextlib.contextmanager
    def _open(
        self, path: str, body: Json | None, on_open: Callable[[Callable[[], None]], None] | None
    ) -> Iterator[HTTPResponse]:
        """Send a question, and turn whatever goes wrong until the connection ends into EngineErrors."""
        connection = HTTPConnection(self.child.started.host, self.child.started.port, timeout=SILENCE_S)
        headers = {"Authorization": f"Bearer {self.child.key}", "Content-Type": "application/json"}
        try:
            connection.connect()
            if on_open is not None:
                on_open(lambda: _shut(connection.sock))
            sent = None if body is None else json.dumps(body)
            connection.request("GET" if sent is None else "POST", path, sent, headers)
            reply = connection.getresponse()
            if reply.status != 200:
                raise _failure(_parsed(reply.read()), f"status {reply.status}")
            yield reply
        except (OSError, HTTPException) as error:
            raise self._broken(error) from None
        finally:
            connection.close()

    def _broken(self, error: Exception) -> EngineError:
        if not self.child.is_alive:
            return EngineError("llama.cpp has ended", why="its process is gone", hint="load the model again")
        return EngineError("llama.cpp did not answer", why=type(error).__name__)


def _shut(sock: socket.socket | None) -> None:
    """Wake whoever reads from a socket, and let the server see that nobody listens."""
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise EngineError("llama.cpp said something unintelligible") from None


def _failure(told: Any, status: str) -> EngineError:
    error = told.get("error", told) if isinstance(told, dict) else {}
    reason = str(error.get("message", status)) if isinstance(error, dict) else status
    return EngineError("llama.cpp refused the request", why=" ".join(reason.split())[:LONGEST_REASON])
