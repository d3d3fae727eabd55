"""ShareGPT: `conversations` of turns with `from` and `value`."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from luthier.data.formats.chat import check_answered, read_messages, read_tools
from luthier.data.formats.shape import Sample, columns_of, list_in, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example, Message

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


@dataclass(frozen=True)
class ShareGpt:
    """`conversations`: a list of {from, value}; `system` and `tools` beside it."""

    name: ClassVar[str] = "sharegpt"
    needs: ClassVar[str] = "`conversations` (a list of {from, value})"
    columns: tuple[str, ...] = ("conversations", "system", "tools")

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        return cls() if sample.has("conversations") else None

    def read(self, row: Value) -> Example:
        """Return the row's conversation."""
        turns = list_in(row, "conversations")
        if turns and "role" in turns[0]:
            messages = read_messages(row, "conversations")
        else:
            messages = tuple(_turn(turn, f"/conversations/{index}") for index, turn in enumerate(turns))
        check_answered(messages, "conversations")
        if columns_of(row).get("system"):
            messages = (Message(role="system", content=text_in(row, "system")), *messages)
        return Example(messages=messages, tools=read_tools(row))


def _turn(turn: dict[str, Any], at: str) -> Message:
    speaker = turn.get("from")
    if not isinstance(speaker, str) or speaker not in ROLES:
        known = ", ".join(ROLES)
        raise RowError(f"the turn is from {str(speaker)[:40]!r}, not one of {known}", f"{at}/from", code="bad_role")
    if not isinstance(turn.get("value"), str):
        raise RowError("the turn's value is not text", f"{at}/value", code="no_content")
    weight = turn.get("weight")
    if weight is not None and (not isinstance(weight, int | float) or isinstance(weight, bool) or weight not in (0, 1)):
        raise RowError("weight is neither 0 nor 1", f"{at}/weight", code="bad_weight")
    return Message(role=ROLES[speaker], content=turn["value"], weight=1 if weight is None else int(weight))
