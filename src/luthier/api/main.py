"""Serve a home: the app in a web server of one process."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from luthier.api.app import make_app
from luthier.core.errors import ResourceError
from luthier.jobs.service.home import PRIVATE_FOLDER
from luthier.jobs.service.service import open_service
from luthier.jobs.service.settings import ServiceSettings

GRACE_S = 10
"""How long answers under way may take once the server is told to stop."""


@dataclass(frozen=True)
class Address:
    """Where the server listens, and under which other names it is asked."""

    host: str
    port: int
    """0 takes a free one."""
    names: Sequence[str] = ()
    """Host names beside the loopback's."""
    origins: Sequence[str] = ()
    """Origins of web pages that may ask."""
    certificate: Path | None = None
    key: Path | None = None


def serve(home: Path, address: Address, told: Callable[[str], None], settings: ServiceSettings | None = None) -> None:
    """Serve until told to stop; `told` hears the address once the server listens."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("luthier").setLevel(logging.INFO)
    service = open_service(home, settings)
    # Large uploads wait beside where they will lie, not in a folder that may be memory.
    waiting = service.home.path / "tmp"
    waiting.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    os.environ["TMPDIR"] = str(waiting)
    listening = _listen(address)
    scheme = "https" if address.certificate else "http"
    names = [*address.names, address.host, *_own(address.host)]
    app = make_app(service, hosts=names, origins=address.origins)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        lifespan="off",
    )
    server = _Server(config, lambda: told(f"{scheme}://{_shown(address.host)}:{listening.getsockname()[1]}/v1"))
    asyncio.run(_run(app, server, listening))


class _Server(uvicorn.Server):
    """Says when it listens; to be told to stop is how it ends, and no error."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gently at the first Ctrl-C or termination, and at once at a second Ctrl-C."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def _run(app: FastAPI, server: _Server, listening: socket.socket) -> None:
    # Not by uvicorn: it would write a traceback where the start-up fails, and hide the error from us.
    async with app.router.lifespan_context(app):
        await server.serve(sockets=[listening])


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
        listening.listen()
    except OSError as error:
        hint = "choose another with `--port`, or end the program that uses it"
        where = {"address": f"{address.host}:{address.port}"}
        raise ResourceError("the server cannot listen here", where=where, why=error.strerror, hint=hint) from error
    return listening


def _own(host: str) -> list[str]:
    """Return what this machine is called, where the server listens to more than the loopback."""
    return [socket.gethostname()] if host in ("0.0.0.0", "::") else []  # noqa: S104 (only compared with)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
