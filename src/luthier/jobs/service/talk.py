"""From a request's messages to those a template reads, and from what a model says to what a client reads."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from luthier.core.errors import DataError
from luthier.data.formats.chat import read_messages
from luthier.data.rows import RowError
from luthier.examples.example import Message
from luthier.jobs.service.calls import Call, Calls, Part
from luthier.jobs.service.refusal import Refusal
from luthier.serve.request import Piece, Spoken

THINK, THOUGHT = "<think>", "</think>"


def messages_of(items: list[dict[str, Any]], column: str = "messages") -> tuple[Message, ...]:
    """Return a request's messages, read just as those of a training file."""
    for index, item in enumerate(items):
        _refuse_media(item.get("content"), f"{column}[{index}].content")
    try:
        return read_messages({column: items}, column)
    except RowError as error:
        param = re.sub(r"/(\d+)", r"[\1]", error.pointer.removeprefix("/")).replace("/", ".")
        raise Refusal(f"Invalid value for '{param}': {error.reason}.", code="invalid_value", param=param) from error


def _refuse_media(content: object, param: str) -> None:
    for index, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in ("text", "refusal"):
            message = f"Invalid content type. {kind[:40]} is only supported by certain models."
            raise Refusal(message, param=f"{param}[{index}].type", code="invalid_value")


def refusal_of(error: DataError, param: str) -> Refusal:
    """Return what a client is told about messages that the model's template refuses."""
    message = error.what[0].upper() + error.what[1:] + (f": {error.why}" if error.why else "")
    return Refusal(message, param=param, code=error.code)


class Thoughts:
    """Leaves out what a model thinks aloud before its answer."""

    def __init__(self, *, opened: bool) -> None:
        self._held = ""
        self._at: Literal["start", "thought", "gap", "answer"] = "thought" if opened else "start"

    def hear(self, text: str) -> str:
        """Return what of the text belongs to the answer, as far as that is known."""
        self._held += text
        if self._at == "start":
            begun = self._held.lstrip()
            if len(begun) < len(THINK) and THINK.startswith(begun):
                return ""
            self._at = "thought" if begun.startswith(THINK) else "answer"
        if self._at == "thought":
            _, ended, after = self._held.partition(THOUGHT)
            if not ended:
                return ""
            self._held, self._at = after, "gap"
        if self._at == "gap":
            self._held = self._held.lstrip("\n")
            self._at = "answer" if self._held else "gap"
        answer, self._held = self._held, ""
        return answer

    def end(self) -> str:
        """Return what was held back, once nothing more comes; an unfinished thought is not an answer."""
        return self._held if self._at == "start" else ""


@dataclass(frozen=True)
class Manner:
    """How one request's answers are to be read."""

    tools: frozenset[str] = frozenset()
    """Names of the tools whose calls are looked for."""
    one_call: bool = False
    opens_thought: bool | None = None
    """Whether the prompt opened a thought; None for a model that does not think aloud, or may not."""


class Hearing:
    """One answer while it is spoken, and all of it afterwards."""

    def __init__(self, manner: Manner) -> None:
        thinks = manner.opens_thought
        self._thoughts = None if thinks is None else Thoughts(opened=thinks)
        self._calls = Calls(manner.tools, at_most=1 if manner.one_call else None) if manner.tools else None
        self.parts: list[Part] = []
        self.tokens: list[Spoken] = []
        self.new_tokens = 0
        self.cached_tokens = 0
        self.finish: str | None = None
        """OpenAI's word for why it ended, once it has."""

    def hear(self, piece: Piece) -> list[Part]:
        """Return the parts that a piece completes."""
        parts = list(self._parts(piece.text, last=piece.finish is not None))
        self.parts += parts
        self.tokens += piece.tokens
        self.new_tokens += piece.new_tokens
        self.cached_tokens += piece.cached_tokens
        if piece.finish:
            called = self._calls is not None and self._calls.found > 0
            self.finish = "length" if piece.finish == "length" else "tool_calls" if called else "stop"
        return parts

    @property
    def text(self) -> str:
        """The answer without its calls."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def calls(self) -> list[Call]:
        """The tools to call."""
        return [part for part in self.parts if isinstance(part, Call)]

    def _parts(self, text: str, *, last: bool) -> Iterator[Part]:
        if self._thoughts:
            text = self._thoughts.hear(text) + (self._thoughts.end() if last else "")
        if self._calls is None:
            yield from [text] if text else []
            return
        yield from self._calls.hear(text) if text else ()
        if last:
            yield from self._calls.end()
