"""POST /responses: text and function calls; nothing is stored, so there is nothing to retrieve or to go on from."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse

from luthier.api.choosing import choosing
from luthier.api.items import chat_choice, chat_items, chat_tools
from luthier.api.shapes_responses import RESPONSES_UNDONE, Response, ResponseRequest
from luthier.api.shapes_talk import Json, refuse_undone
from luthier.api.speech import Speech
from luthier.api.talking import (
    SSE,
    ClientLeft,
    Stream,
    chances_of,
    nobody_there,
    room_for,
    sampling_of,
    take,
    usage_of,
    while_there,
)
from luthier.core.errors import LuthierError
from luthier.examples.example import Message
from luthier.jobs.service.inference import Answers, Seat
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.talk import Hearing, Manner, messages_of

LOGPROBS = "message.output_text.logprobs"
INCLUDED = (LOGPROBS, "reasoning.encrypted_content")
router = APIRouter(tags=["responses"])


@router.post(
    "/responses",
    response_model=Response,
    response_model_exclude_unset=True,
    responses={200: SSE},
    operation_id="createResponse",
)
async def create_response(request: Request, body: ResponseRequest) -> Any:
    """Answer with text or function calls."""
    return await answer_response(request, body)


@dataclass(frozen=True)
class Reply:
    """One response under way."""

    prompt: tuple[int, ...]
    answers: Answers
    hearing: Hearing
    speech: Speech

    def usage(self) -> Json:
        """Return what was computed, in the words of /responses."""
        usage = usage_of([self.prompt], [self.hearing])
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }


async def answer_response(request: Request, body: ResponseRequest, *, model: str | None = None) -> HttpResponse | Json:
    """Answer; `model` stands in for the body's where the address names a deployment."""
    _refuse(body)
    with ExitStack() as held:
        seat = await take(request, model or body.model)
        held.callback(seat.close)
        reply = await _begin(body, seat)
        try:
            await while_there(request, reply.answers.begun())
            if body.stream:
                return Stream(_sent(reply), held.pop_all())
            return await while_there(request, _last(reply))
        except ClientLeft:
            return nobody_there()


def _refuse(body: ResponseRequest) -> None:
    """Refuse by name what is not done."""
    refuse_undone(body, RESPONSES_UNDONE)
    unknown = [name for name in body.include or () if name not in INCLUDED]
    if unknown:
        message = f"Unsupported value: '{unknown[0][:64]}' is not supported in 'include' with this model."
        raise Refusal(message, code="unsupported_value", param="include")


async def _begin(body: ResponseRequest, seat: Seat) -> Reply:
    messages = messages_of(chat_items(body.input), "input")
    if body.instructions:
        messages = (Message(role="system", content=body.instructions), *messages)
    form = body.text.form() if body.text else None
    tools = chat_tools(body.tools or ())
    chosen = choosing(tools, chat_choice(body.tool_choice), form, form_param="text.format")
    prompt = await seat.messages_ids(messages, chosen.tools)
    with_logprobs = LOGPROBS in (body.include or ())
    sampling = sampling_of(
        body.sampled(),
        seat,
        max_tokens=room_for(seat, prompt, wanted=body.max_output_tokens, what="input"),
        logprobs=(body.top_logprobs or 0) if with_logprobs else None,
        grammar=chosen.grammar,
    )
    thinks = None if chosen.grammar else seat.loaded.template.opens_thought
    hearing = Hearing(Manner(chosen.names, one_call=body.parallel_tool_calls is False, opens_thought=thinks))
    speech = Speech(_head(body, seat), with_logprobs=with_logprobs)
    return Reply(prompt, seat.ask([prompt], [sampling]), hearing, speech)


def _head(body: ResponseRequest, seat: Seat) -> Json:
    form = body.text.format if body.text else None
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": int(time.time()),
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": seat.name,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": [{"strict": None, "parameters": None, **tool} for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }


async def _events(reply: Reply) -> AsyncIterator[Json]:
    """Yield all events; the last one holds the whole response."""
    for event in reply.speech.begin():
        yield event
    told = 0
    async for _, piece in reply.answers:
        parts = reply.hearing.hear(piece)
        new = chances_of(reply.hearing.tokens[told:]) if parts else []
        told += len(new)
        for event in reply.speech.say(parts, new):
            yield event
    for event in reply.speech.end(reply.hearing.finish, reply.usage()):
        yield event


async def _last(reply: Reply) -> Json:
    last: Json = {}
    async for event in _events(reply):
        last = event
    return last["response"]


async def _sent(reply: Reply) -> AsyncIterator[str]:
    """Yield the events as they are sent; a failure in between is the last one."""
    try:
        async for event in _events(reply):
            yield _line(event)
    except LuthierError as error:
        yield _line(reply.speech.fail(error.what))


def _line(event: Json) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
