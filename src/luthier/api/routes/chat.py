"""POST /chat/completions: a conversation is answered, whole or as a stream."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from luthier.api.choosing import Choosing, choosing
from luthier.api.shapes_talk import CHAT_UNDONE, ChatCompletion, ChatRequest, Json, refuse_undone
from luthier.api.talking import (
    SSE,
    ClientLeft,
    Stream,
    chances_of,
    events_of,
    head_of,
    hear_all,
    nobody_there,
    room_for,
    sampling_of,
    samplings_of,
    take,
    usage_of,
    while_there,
)
from luthier.jobs.service.calls import Call, Part
from luthier.jobs.service.inference import Answers, Seat
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.talk import Hearing, Manner, messages_of

router = APIRouter(tags=["chat"])


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    response_model_exclude_unset=True,
    responses={200: SSE},
    operation_id="createChatCompletion",
)
async def create_chat_completion(request: Request, body: ChatRequest) -> Any:
    """Answer a conversation with a base, a tuned model, a checkpoint or a deployment."""
    return await answer_chat(request, body)


@dataclass(frozen=True)
class Talk:
    """One conversation under way."""

    body: ChatRequest
    seat: Seat
    prompt: tuple[int, ...]
    heard: list[Hearing]
    """One for each answer."""

    def usage(self) -> Json:
        """Return what was computed."""
        return usage_of([self.prompt], self.heard)


async def answer_chat(request: Request, body: ChatRequest, *, model: str | None = None) -> Response | Json:
    """Answer a conversation; `model` stands in for the body's where the address names a deployment."""
    refuse_undone(body, CHAT_UNDONE)
    if body.top_logprobs is not None and not body.logprobs:
        message = "Invalid value for 'top_logprobs': 'logprobs' must be set to true to use this parameter."
        raise Refusal(message, param="top_logprobs", code="invalid_value")
    messages = messages_of([message.model_dump(exclude_unset=True) for message in body.messages])
    chosen = choosing(body.tools, body.tool_choice, body.response_format, form_param="response_format")
    with ExitStack() as held:
        seat = await take(request, model or body.model)
        held.callback(seat.close)
        prompt = await seat.messages_ids(messages, chosen.tools)
        talk = Talk(body, seat, prompt, [Hearing(_manner(body, seat, chosen)) for _ in range(body.n or 1)])
        answers = _ask(talk, chosen)
        try:
            await while_there(request, answers.begun())
            if body.stream:
                return Stream(events_of(_chunks(talk, answers)), held.pop_all())
            await while_there(request, hear_all(answers, talk.heard))
        except ClientLeft:
            return nobody_there()
    return _whole(talk)


def _manner(body: ChatRequest, seat: Seat, chosen: Choosing) -> Manner:
    # A grammar begins with the answer's first token: there is no thought before it.
    thinks = None if chosen.grammar else seat.loaded.template.opens_thought
    return Manner(chosen.names, one_call=body.parallel_tool_calls is False, opens_thought=thinks)


def _ask(talk: Talk, chosen: Choosing) -> Answers:
    body = talk.body
    wanted = body.max_completion_tokens or body.max_tokens
    sampling = sampling_of(
        body,
        talk.seat,
        max_tokens=room_for(talk.seat, talk.prompt, wanted=wanted, what="messages"),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        grammar=chosen.grammar,
    )
    return talk.seat.ask([talk.prompt] * len(talk.heard), samplings_of(sampling, len(talk.heard)))


def _whole(talk: Talk) -> Json:
    head = head_of(talk.seat, "chat.completion", "chatcmpl")
    choices = [_choice(talk, index, hearing) for index, hearing in enumerate(talk.heard)]
    return {**head, "choices": choices, "usage": talk.usage(), "service_tier": "default"}


def _choice(talk: Talk, index: int, hearing: Hearing) -> Json:
    text, calls = hearing.text, hearing.calls
    message = {"role": "assistant", "content": text if text or not calls else None, "refusal": None, "annotations": []}
    if calls:
        message["tool_calls"] = [call_shape(call) for call in calls]
    logprobs = {"content": chances_of(hearing.tokens), "refusal": None} if talk.body.logprobs else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": hearing.finish}


def call_shape(call: Call) -> Json:
    """Return a call as OpenAI writes it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


async def _chunks(talk: Talk, answers: Answers) -> AsyncIterator[Json]:
    head = head_of(talk.seat, "chat.completion.chunk", "chatcmpl") | {"service_tier": "default"}
    with_usage = talk.body.stream_options is not None and bool(talk.body.stream_options.include_usage)
    head |= {"usage": None} if with_usage else {}

    def chunk(index: int, delta: Json, *, finish: str | None = None, logprobs: Json | None = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**head, "choices": [choice]}

    for index in range(len(talk.heard)):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
    told = [0] * len(talk.heard)
    async for index, piece in answers:
        hearing = talk.heard[index]
        for delta in _deltas(hearing.hear(piece), len(hearing.calls)):
            yield chunk(index, delta, logprobs=_new_logprobs(hearing, told, index))
        if hearing.finish:
            yield chunk(index, {}, finish=hearing.finish, logprobs=_new_logprobs(hearing, told, index))
    if with_usage:
        yield {**head, "choices": [], "usage": talk.usage()}


def _deltas(parts: Sequence[Part], calls: int) -> list[Json]:
    """Return parts as changes of a message that has so many calls with them."""
    number = calls - sum(isinstance(part, Call) for part in parts)
    deltas: list[Json] = []
    for part in parts:
        if isinstance(part, Call):
            deltas.append({"tool_calls": [{"index": number, **call_shape(part)}]})
            number += 1
        else:
            deltas.append({"content": part})
    return deltas


def _new_logprobs(hearing: Hearing, told: list[int], index: int) -> Json | None:
    """Return the tokens that no chunk has told yet; text that is held back brings them later."""
    new, told[index] = hearing.tokens[told[index] :], len(hearing.tokens)
    return {"content": chances_of(new), "refusal": None} if new else None
