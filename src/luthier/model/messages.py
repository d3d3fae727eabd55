"""From messages to what a chat template can show: roles, tools and tool calls it has no words for are put into text."""

import json
from collections.abc import Sequence
from typing import Any

import jinja2

from luthier.core.errors import DataError
from luthier.examples.example import Message

TOOLS_TEXT = "You may call these tools, one JSON object per call inside <tool_call></tool_call>:"

# For models without a chat template. Training, evaluation and chat all use this same text.
PLAIN_TEMPLATE = """\
{%- for message in messages %}
{{- '### ' + message['role'] | capitalize + ':\\n' + message['content'] }}
{{- eos_token if message['role'] == 'assistant' }}
{{- '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"""

# What a template can raise: its own `raise_exception`, and Python's errors from its expressions.
RENDER_ERRORS = (
    jinja2.TemplateError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
)


class TemplateError(DataError):
    """The model's chat template refuses these messages."""

    code = "bad_template"


class Wording:
    """Puts messages into the words of one chat template, judged by what its source mentions."""

    def __init__(self, source: str) -> None:
        self._developer = "developer" in source
        self._tools = "tools" in source
        self._calls = "tool_calls" in source
        self._tool_role = "'tool'" in source or '"tool"' in source

    def messages(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the messages as dicts for the template; tools become a system text where it shows none."""
        worded = [self._message(message) for message in messages]
        if not tools or self._tools:
            return worded
        text = "\n".join([TOOLS_TEXT, *(json.dumps(tool, ensure_ascii=False) for tool in tools)])
        if worded and worded[0]["role"] == "system":
            return [{**worded[0], "content": f"{worded[0]['content']}\n\n{text}"}, *worded[1:]]
        return [{"role": "system", "content": text}, *worded]

    def tools(self, tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
        """Return the tools to hand to the template, or None where it has no place for them."""
        return list(tools) if tools and self._tools else None

    def _message(self, message: Message) -> dict[str, Any]:
        worded: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "developer" and not self._developer:
            worded["role"] = "system"
        if message.role == "tool" and not self._tool_role:
            return {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
        calls = [_parsed(call) for call in message.tool_calls]
        if calls and not self._calls:
            return {**worded, "content": "\n".join(filter(None, [message.content, *map(_call_text, calls)]))}
        extras = {"name": message.name, "tool_calls": calls, "tool_call_id": message.tool_call_id}
        return worded | {key: value for key, value in extras.items() if value}


def _parsed(call: dict[str, Any]) -> dict[str, Any]:
    """Return a tool call with its arguments as an object: OpenAI writes a string, templates expect an object."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise TemplateError("a tool call names no function", why=json.dumps(call)[:200])
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise TemplateError("the arguments of a tool call are not JSON", why=str(error)) from error
    return {**call, "function": {**function, "arguments": arguments}}


def _call_text(call: dict[str, Any]) -> str:
    wanted = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
    return f"<tool_call>\n{json.dumps(wanted, ensure_ascii=False)}\n</tool_call>"
