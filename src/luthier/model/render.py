"""Chat templates rendered in a child process that can be killed: the sandbox stops neither loops nor memory.

The child runs the same function as `tokenizer.apply_chat_template`, so that it writes the same bytes. It speaks JSON,
one line each way, and is replaced when it goes beyond a limit.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luthier.model.child import limit_memory
from luthier.model.messages import RENDER_ERRORS, TemplateError

CPU_SECONDS = 0.5
"""For one render."""
WALL_SECONDS = 5.0
"""For one render on a machine that is busy with other work; a template cannot sleep."""
PATIENCE_SECONDS = 5.0
"""For all renders of one request: a long conversation is rendered once per answer in it."""
START_SECONDS = 60.0
MEMORY_BYTES = 256 << 20
"""Beyond what the child has once it is ready."""
OUTPUT_LENGTH = 1 << 20
"""Characters of a rendered conversation."""
LINE_BYTES = 16 * OUTPUT_LENGTH
"""An answer's line: JSON may write one character as twelve bytes."""
CHILDREN = 2

OUT_OF_MEMORY = 3
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "TZ", "LANG", "LC_ALL", "SYSTEMROOT")
"""What the child sees of the environment: no keys, no tokens."""


class RenderLimitError(TemplateError):
    """A chat template took too long, too much memory, or wrote too much; it was stopped."""

    code = "template_limit"
    usual_hint = "send a shorter conversation, or take another model"


@dataclass(frozen=True)
class Page:
    """What a template renders."""

    source: str
    """The template's text."""
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    answer_next: bool
    """Whether the assistant's answer is to begin at the end."""
    variables: dict[str, Any]
    """The special tokens by name, as the template asks for them."""


class Renderer:
    """A few children that render; safe to call from many threads."""

    def __init__(self, children: int = CHILDREN) -> None:
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(children):
            self._idle.put(None)
        self._children = children
        self._request = threading.local()

    def __call__(self, page: Page) -> str:
        """Return the text of a page; raise TemplateError where the template refuses, RenderLimitError at a limit."""
        seconds = min(WALL_SECONDS, self._left())
        child = self._idle.get()
        try:
            if child is None or not child.alive:
                child = _Child()
            return child.render(page, seconds)
        finally:
            self._idle.put(child if child and child.alive else None)

    @contextlib.contextmanager
    def patience(self, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
        """Bound the time of all renders that this thread asks for inside."""
        self._request.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._request.deadline = None

    def close(self) -> None:
        """End the children, after the renders under way."""
        for _ in range(self._children):
            child = self._idle.get()
            if child:
                child.end()
            self._idle.put(None)

    def _left(self) -> float:
        deadline = getattr(self._request, "deadline", None)
        left = WALL_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise RenderLimitError("the conversation takes too long to put into the model's chat template")
        return left


class _Child:
    """One Python that renders page after page."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        # The command is this Python and this module; nothing in it comes from outside.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "luthier.model.render"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"HF_HUB_OFFLINE": "1"},
        )
        if not self._exchange(b"", START_SECONDS):
            raise RenderLimitError("the process that renders chat templates does not start")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def render(self, page: Page, seconds: float) -> str:
        """Return the text of a page, or end with the child's life."""
        # ASCII, so that half a character (a lone surrogate) arrives as it was sent.
        said = self._exchange(json.dumps(vars(page)).encode() + b"\n", seconds)
        if not said:
            raise RenderLimitError("the model's chat template was stopped", why=self._why())
        answer = json.loads(said)
        if "refused" in answer:
            raise TemplateError("the model's chat template refuses these messages", why=answer["refused"])
        if "length" in answer:
            why = f"it writes {answer['length']:,} characters; at most {OUTPUT_LENGTH:,} are allowed"
            raise RenderLimitError("the model's chat template was stopped", why=why)
        return answer["text"]

    def end(self) -> None:
        """Kill the child and forget its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def _exchange(self, line: bytes, seconds: float) -> bytes:
        """Write a line and return the child's next one; nothing where it died or took longer than allowed."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        said = b""
        try:
            with contextlib.suppress(OSError):
                self._process.stdin.write(line)
                self._process.stdin.flush()
                said = self._process.stdout.readline(LINE_BYTES)
        finally:
            timer.cancel()
        if said.endswith(b"\n"):
            return said
        self.end()
        return b""

    def _why(self) -> str:
        if self._process.returncode == OUT_OF_MEMORY:
            return f"it needed more than {MEMORY_BYTES >> 20} MB of memory"
        if self._process.returncode == -getattr(signal, "SIGPROF", 0):
            return f"it took more than {CPU_SECONDS} s of computing"
        return "it needed too much time or memory"


def main() -> None:
    """Render pages from standard input until it ends."""
    from transformers.utils.chat_template_utils import render_jinja_template

    limit_memory(MEMORY_BYTES)
    _say({"ready": True})
    for line in sys.stdin.buffer:
        try:
            _say(_rendered(render_jinja_template, json.loads(line)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)


def _rendered(render: Any, page: dict[str, Any]) -> dict[str, Any]:
    # No handler: the signal ends the process also inside one long step of the interpreter.
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        rendered, _ = render(
            [page["messages"]],
            tools=page["tools"],
            chat_template=page["source"],
            add_generation_prompt=page["answer_next"],
            **page["variables"],
        )
    except RENDER_ERRORS as error:
        return {"refused": str(error)[:OUTPUT_LENGTH]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"text": rendered[0]} if len(rendered[0]) <= OUTPUT_LENGTH else {"length": len(rendered[0])}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
