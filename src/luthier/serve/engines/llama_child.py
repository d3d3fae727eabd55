"""llama.cpp's server as a process of its own, and that process's program.

A GGUF file is parsed by C++ that had overflows time and again, so nothing reads one in the process that serves. The
child hears what to do as one line of JSON on its standard input, says its address and what the file says of its model
as one on its standard output, and ends when its standard input closes: also where the parent was killed.
"""

import contextlib
import ctypes
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from luthier.core.errors import LuthierError, ModelError

TOOL = "llama-server"
MODULE = "luthier.serve.engines.llama_child"
START_S = 600
END_S = 10
PR_SET_PDEATHSIG = 1
BATCH = 512
"""Tokens that are computed together at most; a prompt to embed is read in one piece."""
ERRORS = 1
"""How much is logged: what goes wrong, nothing of what is asked."""
TIME = re.compile(r"^[\d.]+ [A-Z] +")
"""What stands before each line of its log."""
FAILED = "llama.cpp does not start with this file"


@dataclass(frozen=True)
class Orders:
    """What the child is told."""

    file: str
    rows: int
    threads: int
    answer_bytes: int
    """Memory for keys and values of all rows."""
    key: str = ""


@dataclass(frozen=True)
class Started:
    """What the child says once it answers."""

    host: str
    port: int
    context: int
    """Tokens of one prompt and answer at most."""
    tokens: int
    """Tokens of all rows together at most."""
    vocabulary: int
    is_exact: bool
    """Whether all weights are in fp32."""


class Child:
    """A running server, on an address of this machine only, with a key that only this object knows."""

    def __init__(self, orders: Orders) -> None:
        """Start it and wait until it answers; raise ModelError where it does not."""
        self.key = secrets.token_urlsafe(32)
        self._errors: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603 (this Python and one of our modules)
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        self._stdin, self._stdout = self._process.stdin or sys.stdin, self._process.stdout or sys.stdout
        try:
            self.started = self._begin(replace(orders, key=self.key))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it; does nothing where it has ended."""
        for stream in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _begin(self, orders: Orders) -> Started:
        timer = threading.Timer(START_S, self._process.kill)
        timer.start()
        try:
            with contextlib.suppress(OSError):
                self._stdin.write(json.dumps(asdict(orders)) + "\n")
                self._stdin.flush()
            line = self._stdout.readline()
        finally:
            timer.cancel()
        try:
            told = json.loads(line)
            if "refused" in told:
                raise ModelError(str(told["refused"]), where={"file": orders.file}, why=told["why"])
            return Started(**told)
        except (ValueError, LookupError, TypeError):
            # It writes down the reason as its last deed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self._process.kill()
            self._process.wait()
            raise ModelError(FAILED, where={"file": orders.file}, why=self._reason()) from None

    def _reason(self) -> str:
        self._errors.seek(0)
        lines = [TIME.sub("", line.strip()) for line in self._errors.read().splitlines() if line.strip()]
        told = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
        # What llama.cpp's log says comes late, and says more than what the program ended with.
        told.sort(key=lambda line: line.startswith("error:"))
        # The first one is the cause, the others say what it led to.
        return (told or lines or ["it ended without a word"])[0][:300]


def main() -> None:
    """Serve until the standard input closes."""
    from luthier.serve.engines.llama_file import head_of

    orders = Orders(**json.loads(sys.stdin.readline()))
    try:
        head = head_of(Path(orders.file))
        tokens = head.tokens(rows=orders.rows, most_bytes=orders.answer_bytes)
    except LuthierError as error:
        _say({"refused": error.what, "why": error.why})
        return
    given = _Given(orders, tokens, is_exact=head.is_exact)

    def up(host: str, port: int) -> None:
        _say(asdict(Started(host, port, min(head.context, tokens), tokens, head.vocabulary, head.is_exact)))

    tool = shutil.which(TOOL)
    if tool is None:
        _by_library(given, up)
    else:
        _by_tool(tool, given, up)


@dataclass(frozen=True)
class _Given:
    """What a server is started with."""

    orders: Orders
    tokens: int
    is_exact: bool
    """Whether keys and values stay in fp32; llama.cpp's flash attention would round queries to 16 bits, too."""


Up = Callable[[str, int], None]


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    # Threads of C++ would keep an ordinary end waiting.
    os._exit(0)


def _by_library(asked: _Given, up: Up) -> None:
    """Run the server inside the library `xllamacpp`."""
    import xllamacpp

    threading.Thread(target=_end_with_parent, daemon=True).start()
    orders, given = asked.orders, xllamacpp.CommonParams()
    given.model.path = orders.file
    given.n_ctx, given.n_parallel, given.kv_unified = asked.tokens, orders.rows, True
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = orders.threads
    given.n_threads_http = orders.rows + 4
    given.hostnames, given.port, given.api_keys = ["127.0.0.1"], 0, [orders.key]
    given.n_batch = given.n_ubatch = BATCH
    given.embedding, given.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if asked.is_exact:
        given.cache_type_k = given.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        given.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # What it would change, remember or show by itself.
    given.fit_params = given.ctx_shift = given.warmup = given.ui = given.endpoint_slots = False
    given.cache_ram_mib, given.verbosity = 0, ERRORS
    try:
        server = xllamacpp.Server(given)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    host, _, port = server.listening_address.removeprefix("http://").rpartition(":")
    up(host, int(port))
    threading.Event().wait()


def _by_tool(tool: str, asked: _Given, up: Up) -> None:
    """Run `llama-server` with the same settings, and end with it."""
    orders = asked.orders
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows, threads = str(orders.rows), str(orders.threads)
    command = [tool, "--model", orders.file, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ctx-size", str(asked.tokens), "--parallel", rows, "--kv-unified", "--threads", threads]
    command += ["--batch-size", str(BATCH), "--ubatch-size", str(BATCH)]
    command += ["--embeddings", "--pooling", "mean", "--no-context-shift", "--no-warmup", "--no-webui", "--no-slots"]
    command += ["--jinja", "--cache-ram", "0", "--log-verbosity", str(ERRORS), "--offline"]
    if asked.is_exact:
        command += ["--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off"]
    # The key goes by the environment: everybody can read another process's arguments.
    process = subprocess.Popen(  # noqa: S603 (the tool is the one that the PATH names)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"LLAMA_API_KEY": orders.key},
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    try:
        threading.Thread(target=_stop_with_parent, args=(process,), daemon=True).start()
        _wait_until_up(process, port)
        up("127.0.0.1", port)
        sys.exit(process.wait())
    finally:
        process.kill()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop_with_parent(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.read()
    process.kill()


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    from http.client import HTTPConnection, HTTPException

    while process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=END_S)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    sys.exit(f"error: {Path(sys.argv[0]).name}: {TOOL} ended with status {process.returncode}")


if __name__ == "__main__":
    main()
