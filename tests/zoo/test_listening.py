"""The server as it is started: where it listens, what it speaks, and where it refuses to listen."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from luthier.jobs.service.service import open_service

SECONDS = 60


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def command(home: Path, *more: str) -> list[str]:
    start = "from luthier.cli.main import main; main()"
    return [sys.executable, "-c", start, "serve", "--home", str(home), *more]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as line:
        return line.getsockname()[1]


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    family = [process, *process.children(recursive=True)]
    return [tuple(line.laddr) for one in family for line in one.net_connections() if line.status == psutil.CONN_LISTEN]


@contextlib.contextmanager
def serving(home: Path, *more: str) -> Iterator[psutil.Process]:
    with subprocess.Popen(command(home, *more), stdout=subprocess.DEVNULL, env=environment()) as server:
        try:
            yield psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(30)


def test_cve_2024_9053_2025_32444_one_door_on_the_loopback_that_speaks_http(tmp_path: Path) -> None:
    port, end = free_port(), time.monotonic() + SECONDS
    with serving(tmp_path / "home", "--port", str(port)) as server:
        while not listening(server):
            assert server.is_running() and time.monotonic() < end, "the server does not begin to listen"
            time.sleep(0.1)
        assert listening(server) == [("127.0.0.1", port)]
        # A pickle, as the peers' sockets took it, is no request; nothing answers but the parser of HTTP.
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\r\n\r\n")
            assert line.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("with_key", [False, True], ids=["no key", "with a key"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "localhost.example.com"])
def test_it_does_not_listen_elsewhere_just_like_that(tmp_path: Path, host: str, with_key: bool) -> None:
    if with_key:
        open_service(tmp_path / "home").keys.create("mine")
    asked = command(tmp_path / "home", "--host", host, "--port", str(free_port()))
    done = subprocess.run(asked, capture_output=True, text=True, env=environment(), timeout=SECONDS)
    assert done.returncode == 2 and "error: " in done.stderr, (done.stdout, done.stderr)
    assert ("in the clear" if with_key else "no key") in done.stderr and "sk-ft-" not in done.stdout + done.stderr
