"""Chat: OpenAI's `messages`, with tools and a weight per assistant turn."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from luthier.data.formats.shape import Sample, columns_of, list_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example, Message

ROLES = ("system", "developer", "user", "assistant", "tool")
LOST = ("refusal", "audio", "function_call")
"""Message keys that carry content no chat template here shows: refused rather than lost."""


@dataclass(frozen=True)
class Chat:
    """`messages`: a list of {role, content}; `tools` beside it."""

    name: ClassVar[str] = "chat"
    needs: ClassVar[str] = "`messages` (a list of {role, content})"
    columns: tuple[str, ...] = ("messages", "tools")

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        return cls() if sample.has("messages") else None

    def read(self, row: Value) -> Example:
        """Return the row's conversation."""
        messages = read_messages(row, "messages")
        check_answered(messages, "messages")
        return Example(messages=messages, tools=read_tools(row))


def read_messages(row: Value, column: str) -> tuple[Message, ...]:
    """Return the messages listed in one column."""
    items = list_in(row, column)
    return tuple(_message(item, f"/{column}/{index}") for index, item in enumerate(items))


def check_answered(messages: tuple[Message, ...], column: str) -> None:
    """Raise a RowError unless an assistant's turn is there and each trained one says something."""
    answers = [(index, message) for index, message in enumerate(messages) if message.role == "assistant"]
    if not answers:
        raise RowError("no assistant message: nothing to learn from", f"/{column}", code="no_answer")
    for index, message in answers:
        if message.weight and not message.content and not message.tool_calls:
            raise RowError("the assistant's answer is empty", f"/{column}/{index}/content", code="empty")


def read_tools(row: Value) -> tuple[dict[str, Any], ...]:
    """Return the tools offered to the assistant."""
    columns = columns_of(row)
    if columns.get("functions"):
        raise RowError("`functions` is the old form; write `tools` instead", "/functions", code="legacy")
    return tuple(list_in(row, "tools")) if columns.get("tools") else ()


def _message(item: dict[str, Any], at: str) -> Message:
    role = item.get("role")
    if role == "function":
        raise RowError("the role `function` is the old form; write `tool` instead", f"{at}/role", code="legacy")
    if not isinstance(role, str) or role not in ROLES:
        raise RowError(f"the role is {str(role)[:40]!r}, not one of {', '.join(ROLES)}", f"{at}/role", code="bad_role")
    for key in LOST:
        if item.get(key) is not None:
            known = "is the old form; write `tool_calls` instead" if key == "function_call" else "cannot be trained on"
            raise RowError(f"`{key}` {known}", f"{at}/{key}", code="legacy")
    calls = _tool_calls(item, at)
    return Message(
        role=role,
        content=_content(item, at, may_be_absent=bool(calls)),
        weight=_weight(item, at),
        name=_optional_text(item, "name", at),
        tool_calls=calls,
        tool_call_id=_optional_text(item, "tool_call_id", at),
    )


def _content(item: dict[str, Any], at: str, *, may_be_absent: bool) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    if content is None and may_be_absent:
        return ""
    if content is None:
        raise RowError("no content", f"{at}/content", code="no_content")
    if not isinstance(content, list):
        raise RowError("content is neither text nor a list of text parts", f"{at}/content")
    return "".join(_part(part, f"{at}/content/{index}") for index, part in enumerate(content))


def _part(part: object, at: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise RowError("only parts of the form {type: text, text: …} can be trained on", at, code="not_text")
    return part["text"]


def _weight(item: dict[str, Any], at: str) -> int:
    weight = item.get("weight")
    if weight is None:
        return 1
    if not isinstance(weight, int | float) or isinstance(weight, bool) or weight not in (0, 1):
        raise RowError("weight is neither 0 nor 1", f"{at}/weight", code="bad_weight")
    if item["role"] != "assistant":
        raise RowError("only assistant messages have a weight", f"{at}/weight", code="bad_weight")
    return int(weight)


def _tool_calls(item: dict[str, Any], at: str) -> tuple[dict[str, Any], ...]:
    if not item.get("tool_calls"):
        return ()
    if item["role"] != "assistant":
        raise RowError("only assistant messages call tools", f"{at}/tool_calls")
    calls = item["tool_calls"]
    if not isinstance(calls, list):
        raise RowError("tool_calls is not a list", f"{at}/tool_calls")
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError("a tool call needs function.name", f"{at}/tool_calls/{index}")
    return tuple(calls)


def _optional_text(item: dict[str, Any], key: str, at: str) -> str | None:
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        raise RowError(f"{key} is not text", f"{at}/{key}")
    return value
