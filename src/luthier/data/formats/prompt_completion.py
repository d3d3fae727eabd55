"""Prompt and completion, each as text or as a list of messages."""

from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.chat import check_answered, read_messages, read_tools
from luthier.data.formats.shape import Sample, columns_of, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example, Message


@dataclass(frozen=True)
class PromptCompletion:
    """`prompt`, answered by `completion`."""

    name: ClassVar[str] = "prompt_completion"
    needs: ClassVar[str] = "`prompt` and `completion`"
    columns: tuple[str, ...] = ("prompt", "completion", "tools")

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        return cls() if sample.has("prompt", "completion") else None

    def read(self, row: Value) -> Example:
        """Return prompt and completion as a conversation; loss falls on the completion only."""
        prompt = [_untrained(message) for message in _side(row, "prompt", "user")]
        completion = _side(row, "completion", "assistant")
        check_answered(completion, "completion")
        if not prompt:
            raise RowError("`prompt` is empty", "/prompt", code="empty")
        return Example(messages=(*prompt, *completion), tools=read_tools(row))


def _side(row: Value, column: str, role: str) -> tuple[Message, ...]:
    if isinstance(columns_of(row).get(column), list):
        return read_messages(row, column)
    return (Message(role=role, content=text_in(row, column)),)


def _untrained(message: Message) -> Message:
    return message.model_copy(update={"weight": 0}) if message.role == "assistant" else message
