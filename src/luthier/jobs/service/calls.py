"""Tool calls in a model's text, found also while it still speaks."""

import json
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

OPEN, CLOSE = "<tool_call>", "</tool_call>"
"""As `model/messages.py` words a call, and as Hermes, Qwen and many others do."""
MARKERS = ("[TOOL_CALLS]", "<|python_tag|>", "<|tool_call|>", "<|tool_calls|>", "functools")
"""What Mistral, Llama, Phi and Granite write before JSON; Llama also writes JSON alone."""


@dataclass(frozen=True)
class Call:
    """A tool that the model wants to be called."""

    name: str
    arguments: str
    """A JSON object, as text."""
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")


Part = str | Call


class Calls:
    """Finds calls of the offered tools in a model's text; text that is none stays text."""

    def __init__(self, tools: Collection[str], *, at_most: int | None = None) -> None:
        self._tools = frozenset(tools)
        self._at_most = at_most
        self._held = ""
        self._begun = False
        self._bare = False
        self.found = 0
        """Calls so far."""

    def hear(self, text: str) -> Iterator[Part]:
        """Yield the parts that the text completes."""
        self._held += text
        if not self._begun and not self._begin():
            return
        while not self._bare and self._held:
            before, opened, rest = self._held.partition(OPEN)
            if not opened:
                yield from self._free_text()
                return
            if before.strip():
                yield before.rstrip()
            inside, closed, after = rest.partition(CLOSE)
            self._held = opened + rest
            if not closed:
                return
            self._held = after
            yield from self._calls_or_text(inside, opened + inside + closed)

    def end(self) -> Iterator[Part]:
        """Yield what was held back, once nothing more comes."""
        held, self._held = self._held, ""
        if not held:
            return
        bare = held.strip()
        marker = next((marker for marker in MARKERS if bare.startswith(marker)), "")
        # A model whose end of turn came at once left its call open.
        wanted = bare.removeprefix(OPEN) if bare.startswith(OPEN) else bare.removeprefix(marker)
        yield from self._calls_or_text(wanted, held)

    def _begin(self) -> bool:
        """Decide whether the answer may be a bare call; without a first letter that cannot be said."""
        start = self._held.lstrip()
        waiting = not start or any(marker.startswith(start) for marker in MARKERS)
        self._begun = not waiting
        self._bare = start.startswith(("{", "[", *MARKERS))
        return self._begun

    def _free_text(self) -> Iterator[str]:
        """Yield the held text but for its end, where that may become a call or be the blank before one."""
        end = len(self._held.rstrip())
        starts = range(max(0, end - len(OPEN) + 1), end)
        end = next((at for at in starts if OPEN.startswith(self._held[at:end])), end)
        keep = len(self._held[:end].rstrip())
        text, self._held = self._held[:keep], self._held[keep:]
        if text:
            yield text

    def _calls_or_text(self, wanted: str, text: str) -> Iterator[Part]:
        calls = self._parsed(wanted)
        if not calls:
            yield text
            return
        for call in calls:
            if self._at_most is None or self.found < self._at_most:
                self.found += 1
                yield call

    def _parsed(self, text: str) -> list[Call]:
        """Return the calls written in a text, or none if it is anything else but calls of offered tools."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return []
        calls = [self._call(item) for item in (said if isinstance(said, list) else [said])]
        return [call for call in calls if call] if all(calls) else []

    def _call(self, said: object) -> Call | None:
        wanted = said.get("function", said) if isinstance(said, dict) else None
        wanted = said if isinstance(wanted, str) else wanted
        if not isinstance(wanted, dict):
            return None
        name = wanted.get("name", wanted.get("function"))
        arguments = wanted.get("arguments", wanted.get("parameters", {}))
        if isinstance(arguments, str):
            return Call(name, arguments) if name in self._tools and _is_object(arguments) else None
        if not isinstance(name, str) or name not in self._tools or not isinstance(arguments, dict):
            return None
        return Call(name, json.dumps(arguments, ensure_ascii=False))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
