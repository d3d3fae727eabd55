"""Responses: the documented items and events, as the official client reads them."""

import asyncio
import json

import openai
import pytest
from tests.api.fakes import Room, events_in, pieces_of

from luthier.core.errors import ModelError

TOOL = {"type": "function", "name": "weather", "strict": True, "parameters": {"type": "object", "properties": {}}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Brno"}}</tool_call>'
MESSAGE_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    *["response.output_text.delta"] * 7,
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def ask(room: Room, strict: bool = True, **body: object):
    client = room.client(_strict_response_validation=strict)
    return client.responses.create(**{"model": "tiny", "input": "hello", **body})


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
def test_an_answer_has_all_its_parts(room: Room, strict: bool) -> None:
    said = ask(room, strict, instructions="Be brief.", max_output_tokens=30, metadata={"a": "b"}, temperature=0)
    assert (said.output_text, said.status, said.model) == ("base says hello, None", "completed", "tiny")
    assert (said.usage.output_tokens, said.usage.input_tokens_details.cached_tokens) == (7, 2)
    assert said.instructions == "Be brief." and said.metadata == {"a": "b"} and said.temperature == 0
    assert said.output[0].role == "assistant" and said.output[0].status == "completed"
    assert room.engine.asks[0].sampling.max_tokens == 30 and room.engine.asks[0].sampling.temperature == 0


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
def test_a_stream_is_told_as_documented(room: Room, strict: bool) -> None:
    events = list(ask(room, strict, stream=True))
    assert [event.type for event in events] == MESSAGE_EVENTS
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type.endswith("text.delta")) == "base says hello, None"
    assert events[0].response.status == "in_progress" and events[0].response.output == []
    assert events[-1].response.output_text == "base says hello, None"
    assert len({event.item_id for event in events if hasattr(event, "item_id")}) == 1


def test_the_clients_own_stream_helper_and_async(room: Room) -> None:
    with room.client().responses.stream(model="tiny", input="hello") as stream:
        assert stream.get_final_response().output_text == "base says hello, None"

    async def streamed() -> str:
        async with openai.AsyncOpenAI(base_url=f"{room.address}/v1", api_key="k", max_retries=0) as client:
            stream = await client.responses.create(model="tiny", input="hello", stream=True)
            return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])

    assert asyncio.run(streamed()) == "base says hello, None"


def test_items_become_the_messages_that_chat_sends(room: Room) -> None:
    ask(
        room,
        instructions="Be brief.",
        tools=[TOOL],
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "c", "output": "sunny"},
            {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Sun."}]},
            {"role": "user", "content": "and now?"},
        ],
    )
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}
    room.client().chat.completions.create(
        model="tiny",
        tools=[{"type": "function", "function": {"name": "weather", "parameters": TOOL["parameters"]}}],
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "sunny"},
            {"role": "assistant", "content": "Sun."},
            {"role": "user", "content": "and now?"},
        ],
    )
    assert room.engine.asks[0].ids == room.engine.asks[1].ids


def test_an_answer_can_be_sent_back_as_it_came(room: Room) -> None:
    said = ask(room)
    again = ask(room, input=[{"role": "user", "content": "hello"}, *said.output, {"role": "user", "content": "more"}])
    assert again.usage.input_tokens > said.usage.input_tokens


def test_calls_are_items_of_their_own(room: Room) -> None:
    room.engine.script = lambda asked: pieces_of(f"Let me look. {CALL}")
    text, call = ask(room, tools=[TOOL]).output
    assert text.content[0].text == "Let me look."
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Brno"})
    events = list(ask(room, tools=[TOOL], stream=True))
    tail = [event.type.removeprefix("response.") for event in events[-5:]]
    calls = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert tail == [*calls, "completed"]
    assert [item.type for item in events[-1].response.output] == ["message", "function_call"]


def test_an_answer_cut_at_its_limit_is_incomplete(room: Room) -> None:
    room.engine.script = lambda asked: pieces_of("cut", finish="length")
    said = ask(room)
    assert (said.status, said.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert list(ask(room, stream=True))[-1].type == "response.incomplete"


def test_log_probabilities_are_included_where_asked_for(room: Room) -> None:
    room.engine.script = lambda asked: pieces_of("abc", size=1, logprobs=asked.sampling.logprobs)
    said = ask(room, include=["message.output_text.logprobs"], top_logprobs=1)
    assert [token.token for token in said.output[0].content[0].logprobs] == ["a", "b", "c"]
    assert not ask(room).output[0].content[0].logprobs


def test_a_failure_in_between_is_the_last_event(room: Room) -> None:
    room.engine.script = lambda asked: [*pieces_of("some")[:1], ModelError("the adapter is gone")]
    last = list(ask(room, stream=True))[-1]
    assert last.type == "response.failed" and last.response.error.message.endswith("the adapter is gone")
    with room.client().responses.with_streaming_response.create(model="tiny", input="a", stream=True) as reply:
        assert "event: response.failed" in (text := reply.read().decode()) and len(events_in(text)) == 6


REFUSED = {
    "stored": ({"store": True}, "unsupported_parameter", "store"),
    "background": ({"background": True}, "unsupported_parameter", "background"),
    "previous": ({"previous_response_id": "resp_1"}, "unsupported_parameter", "previous_response_id"),
    "conversation": ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
    "reasoning": ({"reasoning": {"effort": "high"}}, "unsupported_parameter", "reasoning"),
    "truncation": ({"truncation": "auto"}, "unsupported_parameter", "truncation"),
    "include": ({"include": ["file_search_call.results"]}, "unsupported_value", "include"),
    "built-in tool": ({"tools": [{"type": "web_search"}]}, "invalid_value", "tools[0].type"),
    "reference": ({"input": [{"type": "item_reference", "id": "x"}]}, "unsupported_value", "input[0].type"),
    "image": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/"}]}]},
        *("invalid_value", "input[0].content[0].type"),
    ),
    "call without a name": (
        {"input": [{"type": "function_call", "call_id": "c"}]},
        *("missing_required_parameter", "input[0].name"),
    ),
}


@pytest.mark.parametrize(("body", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_done_is_refused_by_name(room: Room, body: dict, code: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(room, **body)
    assert (refused.value.code, refused.value.param) == (code, param) and room.engine.asks == []


def test_a_schema_reaches_the_engine(room: Room) -> None:
    room.engine.script = lambda asked: pieces_of('{"city": "Brno"}')
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    said = ask(room, text={"format": {"type": "json_schema", "name": "weather", "schema": schema}})
    assert said.text.format.type == "json_schema" and "city" in room.engine.asks[0].sampling.grammar
