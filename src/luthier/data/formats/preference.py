"""Preference: a prompt with two answers, of which one is preferred."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from luthier.data.formats.chat import read_messages, read_tools
from luthier.data.formats.shape import Sample, columns_of, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example, Message

PAIRS = (
    ("preferred_output", "non_preferred_output"),
    ("preferred_completion", "non_preferred_completion"),
    ("chosen", "rejected"),
)


@dataclass(frozen=True)
class Preference:
    """OpenAI's `input`, `preferred_output` and `non_preferred_output`; or `prompt`, `chosen` and `rejected`."""

    name: ClassVar[str] = "preference"
    needs: ClassVar[str] = (
        "`chosen` and `rejected` with a `prompt`, or `input`, `preferred_output` and `non_preferred_output`"
    )
    preferred: str
    other: str

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        return next((cls(*pair) for pair in PAIRS if sample.has(*pair)), None)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return ("input", "prompt", self.preferred, self.other, "tools")

    def read(self, row: Value) -> Example:
        """Return the conversation with the preferred answer, and the other answer beside it."""
        (said, answer), (also_said, other) = (_conversation(row, column) for column in (self.preferred, self.other))
        if said != also_said:
            raise RowError("the two conversations differ before their last messages", f"/{self.other}")
        prompt, tools = _prompt(row, said)
        messages = tuple(_untrained(message) for message in prompt)
        if not messages:
            raise RowError("no prompt: nothing says what is answered", "/prompt", code="missing_column")
        return Example(messages=(*messages, answer), tools=tools, rejected=other)


def _conversation(row: Value, column: str) -> tuple[tuple[Message, ...], Message]:
    """Return an answer and what its column repeats of the conversation before it."""
    if not isinstance(columns_of(row).get(column), list):
        return (), Message(role="assistant", content=text_in(row, column))
    messages = read_messages(row, column)
    if not messages or messages[-1].role != "assistant":
        raise RowError("the answer is not an assistant message", f"/{column}", code="no_answer")
    *said, answer = messages
    if said and said[0].role == "assistant":
        raise RowError("the answer is more than one message", f"/{column}", code="several_answers")
    if not answer.content and not answer.tool_calls:
        raise RowError("the assistant's answer is empty", f"/{column}/{len(said)}/content", code="empty")
    return tuple(said), answer.model_copy(update={"weight": 1})


def _prompt(row: Value, said: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[dict[str, Any], ...]]:
    """Return the messages before the answers and the tools; what the answers' columns repeat must agree with them."""
    columns = columns_of(row)
    if columns.get("input") is not None:
        prompt, tools = _input(columns["input"])
    else:
        prompt, tools = _side(row), read_tools(row)
    if not said:
        return prompt, tools
    spoken = [(message.role, message.content) for message in said]
    if any((message.role, message.content) not in spoken for message in prompt):
        raise RowError("the prompt is not what the answers' conversation begins with", "/prompt")
    return said, tools


def _side(row: Value) -> tuple[Message, ...]:
    prompt = columns_of(row).get("prompt")
    if prompt is None:
        return ()
    if isinstance(prompt, list):
        return read_messages(row, "prompt")
    return (Message(role="user", content=text_in(row, "prompt")),)


def _input(given: object) -> tuple[tuple[Message, ...], tuple[dict[str, Any], ...]]:
    if not isinstance(given, dict):
        raise RowError("`input` is not an object with `messages`", "/input")
    try:
        return read_messages(given, "messages"), read_tools(given)
    except RowError as error:
        raise RowError(error.reason, f"/input{error.pointer}", code=error.code) from None


def _untrained(message: Message) -> Message:
    return message.model_copy(update={"weight": 0}) if message.role == "assistant" else message
