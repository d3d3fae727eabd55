"""The items of a response's input, in the words of chat."""

from collections.abc import Sequence

from luthier.api.shapes_talk import Json
from luthier.jobs.service.refusal import Refusal

TEXT_PARTS = ("input_text", "output_text", "text")


def chat_items(given: str | Sequence[Json]) -> list[Json]:
    """Return the input as chat messages; Refusal by name for what is not text, a call or its output."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[Json] = []
    for index, item in enumerate(given):
        at = f"input[{index}]"
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"), f"{at}.content")})
        elif kind == "function_call":
            _add_call(messages, item, at)
        elif kind == "function_call_output":
            output = _content(item.get("output"), f"{at}.output")
            messages.append({"role": "tool", "content": output, "tool_call_id": _text(item, "call_id", at)})
        else:
            message = f"Unsupported item: '{str(kind)[:40]}' is not supported with this model."
            raise Refusal(message, code="unsupported_value", param=f"{at}.type")
    return messages


def chat_tools(tools: Sequence[Json]) -> list[Json]:
    """Return functions in chat's nested form, which training rows have; other tools stay and are refused there."""
    nested = []
    for tool in tools:
        function = {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key) is not None}
        nested.append({"type": "function", "function": function} if tool.get("type") == "function" else tool)
    return nested


def chat_choice(choice: str | Json | None) -> str | Json | None:
    """Return the choice of a tool in chat's nested form."""
    if isinstance(choice, dict) and choice.get("type") == "function" and "name" in choice:
        return {"type": "function", "function": {"name": choice["name"]}}
    return choice


def _content(content: object, at: str) -> object:
    """Return content with its text parts named as in chat; the others keep their names and are refused by them."""
    if not isinstance(content, list):
        return content
    return [
        {"type": "text", "text": part.get("text")}
        if isinstance(part, dict) and part.get("type") in TEXT_PARTS
        else part
        for part in content
    ]


def _add_call(messages: list[Json], item: Json, at: str) -> None:
    """Add a call to the assistant's turn before it, or as a turn of its own."""
    function = {"name": _text(item, "name", at), "arguments": _text(item, "arguments", at)}
    call = {"id": _text(item, "call_id", at), "type": "function", "function": function}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _text(item: Json, key: str, at: str) -> str:
    value, param = item.get(key), f"{at}.{key}"
    if not isinstance(value, str):
        raise Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    return value
