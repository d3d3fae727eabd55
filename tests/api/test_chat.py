"""Chat in OpenAI's words, asked with the official client: whole, streaming, sync, async, and strictly validated."""

import asyncio
import json
import time

import httpx2
import openai
import pytest
from pydantic import BaseModel
from tests.api.fakes import HELLO, Room, events_in, pieces_of

from luthier.core.errors import ModelError
from luthier.data.formats.chat import Chat
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, tiny_tokenizer

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Brno"}}</tool_call>'


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
def test_an_answer_has_all_its_parts(room: Room, strict: bool) -> None:
    client = room.client(_strict_response_validation=strict)
    said = client.chat.completions.create(model="ft:tiny:luthier::abc", messages=HELLO, seed=7, max_tokens=20)
    assert said.choices[0].message.content == "abc says hello, 7"
    assert (said.model, said.choices[0].finish_reason) == ("ft:tiny:luthier::abc", "stop")
    assert said.usage.prompt_tokens == len(room.engine.asks[0].ids)
    assert (said.usage.completion_tokens, said.usage.prompt_tokens_details.cached_tokens) == (6, 2)
    assert said.usage.total_tokens == said.usage.prompt_tokens + 6
    assert said.system_fingerprint == "fp_fake" and said.id.startswith("chatcmpl-")
    assert room.engine.asks[0].sampling.max_tokens == 20


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
def test_a_stream_is_told_as_documented(room: Room, strict: bool) -> None:
    client = room.client(_strict_response_validation=strict)
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "base says hello, None"
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 7
    assert all(c.usage is None for c in chunks[:-1])
    assert {(c.id, c.model) for c in chunks} == {(chunks[0].id, "tiny")}


def test_a_stream_without_usage_tells_none_and_ends_with_the_last_word(room: Room) -> None:
    with room.client().chat.completions.with_streaming_response.create(
        model="tiny", messages=HELLO, stream=True
    ) as reply:
        text = reply.read().decode()
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert text.endswith("data: [DONE]\n\n") and not any("usage" in event for event in events_in(text))


def test_async_and_many_at_once(room: Room) -> None:
    async def ask(client: openai.AsyncOpenAI, seed: int) -> tuple[str, str]:
        whole = await client.chat.completions.create(model="tiny", messages=HELLO, seed=seed)
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, seed=seed, stream=True)
        return whole.choices[0].message.content, "".join([c.choices[0].delta.content or "" async for c in stream])

    async def all_of_them() -> list[tuple[str, str]]:
        async with openai.AsyncOpenAI(base_url=f"{room.address}/v1", api_key="k", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(12)))

    assert asyncio.run(all_of_them()) == [(f"base says hello, {seed}",) * 2 for seed in range(12)]


def test_several_answers_have_their_own_seeds_and_count_the_prompt_once(room: Room) -> None:
    said = room.ask(n=3, seed=5)
    assert [choice.message.content for choice in said.choices] == [f"base says hello, {seed}" for seed in (5, 6, 7)]
    assert said.usage.prompt_tokens == len(room.engine.asks[0].ids) and said.usage.completion_tokens == 18
    streamed = {0: "", 1: ""}
    for chunk in room.ask(n=2, seed=5, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == {0: "base says hello, 5", 1: "base says hello, 6"}


def test_log_probabilities_come_with_their_bytes(room: Room) -> None:
    room.engine.script = lambda ask: pieces_of("žluť", size=1, logprobs=ask.sampling.logprobs)
    client = room.client(_strict_response_validation=True)
    body = {"model": "tiny", "messages": HELLO, "logprobs": True, "top_logprobs": 2}
    content = client.chat.completions.create(**body).choices[0].logprobs.content
    assert [(token.token, token.bytes, token.logprob) for token in content][0] == ("ž", [197, 190], -0.5)
    assert [other.logprob for other in content[0].top_logprobs] == [-0.5, -9999.0]
    chunks = [*client.chat.completions.create(**body, stream=True)]
    told = [token.token for chunk in chunks if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert told == list("žluť") and room.engine.asks[0].sampling.logprobs == 2
    assert room.ask().choices[0].logprobs is None and room.engine.asks[-1].sampling.logprobs is None


def test_sampling_reaches_the_engine(room: Room) -> None:
    room.ask(
        temperature=0,
        top_p=0,
        stop=["a", "b"],
        frequency_penalty=1.5,
        presence_penalty=-1,
        logit_bias={"3": -100},
        max_completion_tokens=9,
        max_tokens=5,
    )
    room.ask(stop="end")
    first, second = (ask.sampling for ask in room.engine.asks)
    assert (first.temperature, first.stop, first.max_tokens) == (0, ("a", "b"), 9) and 0 < first.top_p < 1e-3
    assert (first.frequency_penalty, first.presence_penalty, first.logit_bias) == (1.5, -1, {3: -100})
    assert (second.stop, second.temperature, second.top_p, second.seed) == (("end",), 1.0, 1.0, None)
    assert second.max_tokens == CONTEXT - len(room.engine.asks[1].ids)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "the question"}],
        [{"role": "system", "content": "No."}, {"role": "user", "content": [{"type": "text", "text": "hé 👩‍👩‍👧"}]}],
        [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        [
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "sunny"},
        ],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
    ],
    ids=["plain", "system", "developer", "tools", "turns"],
)
@pytest.mark.parametrize("tools", [None, [TOOL]], ids=["no tools", "tools"])
def test_what_is_sent_to_the_engine_is_what_training_saw(room: Room, messages: list, tools: list | None) -> None:
    """Take the training file's way for one and the service's way for the other."""
    more = {"tools": tools} if tools else {}
    row = {"messages": [*messages, {"role": "assistant", "content": "an answer"}], **more}
    trained = Template(tiny_tokenizer()).encode(Chat().read(row))
    room.ask(messages=messages, **more)
    assert list(room.engine.asks[-1].ids) == trained.ids[: trained.prompt_tokens]


def test_tool_calls_are_found_whole_and_in_streams(room: Room) -> None:
    room.engine.script = lambda ask: pieces_of(f"Let me look.\n{CALL}\n{CALL}")
    client = room.client(_strict_response_validation=True)
    choice = client.chat.completions.create(model="tiny", messages=HELLO, tools=[TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Let me look."
    assert [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls] == [
        ("weather", {"city": "Brno"})
    ] * 2
    chunks = list(client.chat.completions.create(model="tiny", messages=HELLO, tools=[TOOL], stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [(call.index, call.function.name) for call in calls] == [(0, "weather"), (1, "weather")]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Let me look."


def test_the_clients_own_stream_helper_puts_calls_together(room: Room) -> None:
    room.engine.script = lambda ask: pieces_of(CALL)
    with room.client().chat.completions.stream(model="tiny", messages=HELLO, tools=[TOOL]) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.message.tool_calls[0].function.arguments == '{"city": "Brno"}'
    assert choice.finish_reason == "tool_calls"


def test_only_what_was_offered_is_called(room: Room) -> None:
    room.engine.script = lambda ask: pieces_of(CALL)
    assert room.ask().choices[0].message.content == CALL
    none = room.ask(tools=[TOOL], tool_choice="none").choices[0]
    assert none.message.content == CALL and none.finish_reason == "stop"
    assert room.engine.asks[1].ids == room.engine.asks[0].ids
    one = room.ask(tools=[TOOL], parallel_tool_calls=False).choices[0].message
    assert one.content is None and len(one.tool_calls) == 1


REFUSED = {
    "unknown model": ({"model": "gpt-9"}, 404, "model_not_found", "model", "The model 'gpt-9' does not exist"),
    "old functions": ({"functions": [{"name": "f"}]}, 400, "unsupported_parameter", "functions", "functions"),
    "old function call": ({"function_call": "auto"}, 400, "unsupported_parameter", "function_call", "function_call"),
    "audio": ({"audio": {"voice": "a"}}, 400, "unsupported_parameter", "audio", "audio"),
    "modalities": ({"modalities": ["text", "audio"]}, 400, "unsupported_parameter", "modalities", "modalities"),
    "reasoning": ({"reasoning_effort": "high"}, 400, "unsupported_parameter", "reasoning_effort", "reasoning_effort"),
    "image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
        *(400, "invalid_value", "messages[0].content[0].type", "image_url"),
    ),
    "role": ({"messages": [{"role": "boss", "content": "x"}]}, 400, "invalid_value", "messages[0].role", "boss"),
    "function role": (
        {"messages": [{"role": "function", "name": "f", "content": "x"}]},
        *(400, "invalid_value", "messages[0].role", "old form"),
    ),
    "no content": ({"messages": [{"role": "user"}]}, 400, "invalid_value", "messages[0].content", "no content"),
    "too long": (
        {"messages": [{"role": "user", "content": "x" * 2 * CONTEXT}]},
        *(400, "context_length_exceeded", "messages", f"maximum context length is {CONTEXT} tokens"),
    ),
    "no messages": ({"messages": []}, 400, "invalid_value", "messages", "at least 1"),
    "temperature": ({"temperature": 3}, 400, "invalid_value", "temperature", "equal to 2"),
    "many stops": ({"stop": list("abcde")}, 400, "invalid_value", None, "at most 4"),
    "top_logprobs alone": ({"top_logprobs": 2}, 400, "invalid_value", "top_logprobs", "logprobs"),
    "bias": ({"logit_bias": {"99999": 1}}, 400, "invalid_value", "logit_bias", "99999"),
    "a field of no one": ({"extra_body": {"top_k": 3}}, 400, "unknown_parameter", "top_k", "Unrecognized"),
    "custom tool": ({"tools": [{"type": "custom"}]}, 400, "invalid_value", "tools[0].type", "custom"),
    "nameless tool": (
        {"tools": [{"type": "function", "function": {}}]},
        *(400, "missing_required_parameter", "tools[0].function.name", "name"),
    ),
    "choice of nothing": ({"tool_choice": "required"}, 400, "invalid_value", "tool_choice", "only allowed"),
    "choice of another": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "rm"}}},
        *(400, "invalid_value", "tool_choice", "'rm' is not among"),
    ),
    "tools and a form": (
        {"tools": [TOOL], "response_format": {"type": "json_object"}},
        *(400, "unsupported_parameter", "response_format", "cannot be used together"),
    ),
}


@pytest.mark.parametrize(("body", "status", "code", "param", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_done_is_refused_by_name(
    room: Room, body: dict, status: int, code: str | None, param: str | None, words: str
) -> None:
    error = room.refused(**body)
    assert (error.status_code, error.code) == (status, code), error.message
    assert words in error.message and (param is None or error.param == param)
    assert error.type == "invalid_request_error" and room.engine.asks == []


def test_half_a_character_is_refused(room: Room) -> None:
    body = '{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}'
    headers = {"content-type": "application/json"}
    refused = httpx2.post(f"{room.address}/v1/chat/completions", content=body, headers=headers)
    assert refused.status_code == 400 and "unicode" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"store": True, "metadata": {"a": "b"}, "user": "u", "service_tier": "auto", "parallel_tool_calls": True},
        {"modalities": ["text"], "verbosity": "medium", "reasoning_effort": "none"},
        {"response_format": {"type": "text"}, "tool_choice": "auto", "logprobs": False},
        {"prediction": {"type": "content", "content": "x"}, "safety_identifier": "s", "prompt_cache_key": "k"},
    ],
)
def test_what_changes_nothing_is_taken(room: Room, body: dict) -> None:
    assert room.ask(**body).choices[0].message.content == "base says hello, None"


def test_a_full_line_says_when_to_come_back(room: Room) -> None:
    room.engine.room = 1
    error = room.refused(n=2)
    assert (error.status_code, error.code, error.type) == (429, "rate_limit_exceeded", "requests")
    assert error.response.headers["retry-after"] == "1"
    assert room.engine.tickets[0].cancelled.is_set()


def test_what_fails_at_once_fails_with_a_status_and_later_in_the_stream(room: Room) -> None:
    room.engine.script = lambda ask: [ModelError("the adapter is gone")]
    assert room.refused(stream=True).status_code == 500
    room.engine.script = lambda ask: [*pieces_of("some")[:1], ModelError("the adapter is gone")]
    with pytest.raises(openai.APIError, match="adapter is gone"):
        list(room.ask(stream=True))
    assert room.refused().code == "bad_model"


def test_another_base_waits_until_the_first_is_idle(room: Room) -> None:
    room.engine.pause_s = 0.05
    stream = room.ask(stream=True)
    next(iter(stream))
    error = room.refused(model="other")
    assert error.status_code == 503 and error.response.headers["retry-after"] == "5"
    list(stream)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not room.engine.closed:
        try:
            assert room.ask(model="other").model == "other"
        except openai.InternalServerError:
            time.sleep(0.05)
    assert room.engine.closed


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_takes_the_row_along(room: Room, stream: bool) -> None:
    room.engine.script = lambda ask: pieces_of("word " * 400)
    room.engine.pause_s = 0.02
    if stream:
        with room.ask(stream=True) as answer:
            next(iter(answer))
    else:
        with pytest.raises(openai.APITimeoutError):
            room.client(timeout=0.3).chat.completions.create(model="tiny", messages=HELLO)
    assert room.engine.tickets[0].cancelled.wait(5)
    time.sleep(0.1)
    assert room.inference._users == 0


class Weather(BaseModel):
    city: str


def test_the_forms_reach_the_engine_as_grammars(room: Room) -> None:
    room.engine.script = lambda ask: pieces_of('{"city": "Brno"}')
    parsed = room.client().chat.completions.parse(model="tiny", messages=HELLO, response_format=Weather)
    assert parsed.choices[0].message.parsed == Weather(city="Brno")
    room.ask(response_format={"type": "json_object"})
    room.ask()
    grammars = [ask.sampling.grammar for ask in room.engine.asks]
    assert grammars[0] and grammars[1] and grammars[0] != grammars[1] and grammars[2] is None


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_be_is_held_to_its_schema(room: Room, choice: object) -> None:
    room.engine.script = lambda ask: pieces_of('{"name": "weather", "arguments": {"city": "Brno"}}')
    chosen = room.ask(tools=[TOOL], tool_choice=choice).choices[0]
    assert chosen.message.tool_calls[0].function.name == "weather" and chosen.message.content is None
    assert "city" in room.engine.asks[0].sampling.grammar
