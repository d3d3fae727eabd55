"""What the routes that ask a model share: taking a place, sampling, streams, and clients who leave."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from luthier.api.deps import owner_of
from luthier.api.shapes_talk import Json, Sampled, Usage
from luthier.core.errors import LuthierError
from luthier.jobs.service.inference import Answers, Inference, Seat
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.talk import Hearing
from luthier.serve.request import Chance, Sampling, Spoken

LEAST_LOGPROB = -9999.0
"""What the hosted service writes for a token that cannot be; JSON knows no infinity."""
LEAST_TOP_P = 1e-6
"""0 is allowed there and keeps the best token only."""
CLIENT_LEFT = 499
MOST_INPUTS = 2048
SSE = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
"""The second kind of reply of a route that streams, for the API's document."""
Result = TypeVar("Result")


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


def inference_of(request: Request) -> Inference:
    """Return the service's inference."""
    return request.app.state.inference


async def take(request: Request, model: str) -> Seat:
    """Return a place at the named model; Refusal if it is unknown to this key's project, or cannot be had now."""
    return await inference_of(request).take(model, owner_of(request))


async def while_there(request: Request, work: Awaitable[Result]) -> Result:
    """Return the work's result, or give it up and raise ClientLeft when the client closes the connection."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return await working
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    # The body is read, so all that can still arrive is that the client has left.
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(0.05)


async def hear_all(answers: Answers, heard: Sequence[Hearing]) -> None:
    """Listen until all answers are whole."""
    async for which, piece in answers:
        heard[which].hear(piece)


def texts_or_ids(given: str | list[Any], param: str) -> list[str | list[int]]:
    """Return the inputs of a request one by one: texts, or token ids."""
    if not given and isinstance(given, list):
        raise Refusal(f"Invalid '{param}': it is an empty list.", param=param, code="empty_array")
    if isinstance(given, str) or isinstance(given[0], int):
        return [given]
    if len(given) > MOST_INPUTS:
        message = f"Invalid '{param}': at most {MOST_INPUTS} inputs in one request."
        raise Refusal(message, param=param, code="array_above_max_length")
    return given


def check_ids(seat: Seat, ids: list[int], param: str) -> tuple[int, ...]:
    """Return token ids; Refusal where the model has no such token."""
    vocabulary = len(seat.loaded.template.tokenizer)
    if any(not 0 <= token < vocabulary for token in ids):
        message = f"Invalid '{param}': this model's token ids go from 0 to {vocabulary - 1}."
        raise Refusal(message, param=param, code="invalid_value")
    return tuple(ids)


def nobody_there() -> Response:
    """Return the reply that no one reads."""
    return Response(status_code=CLIENT_LEFT)


class Stream(StreamingResponse):
    """Server-sent events; whatever ends them, the place at the model is given back."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], held: ExitStack) -> None:
        super().__init__(events, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; also where the client leaves before the first one, the rows leave the batch."""
        with self._held:
            await super().__call__(scope, receive, send)


async def events_of(chunks: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[str]:
    """Yield chunks as OpenAI streams them; an error in between is told in the stream, as the headers are gone."""
    try:
        async for chunk in chunks:
            yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    except LuthierError as error:
        yield f"data: {json.dumps({'error': error_body(error)})}\n\n"
        return
    yield "data: [DONE]\n\n"


def error_body(error: LuthierError) -> Json:
    """Return an error's fields for a stream."""
    if isinstance(error, Refusal):
        return {"message": error.what, "type": error.kind, "param": error.param, "code": error.error_code}
    return {"message": error.what, "type": "server_error", "param": None, "code": error.code}


def sampling_of(body: Sampled, seat: Seat, *, max_tokens: int, logprobs: int | None, grammar: str | None) -> Sampling:
    """Return how a request's tokens are chosen."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else max(body.top_p, LEAST_TOP_P),
        seed=body.seed,
        stop=tuple(text for text in stop if text),
        logprobs=logprobs,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=_logit_bias(body.logit_bias or {}, len(seat.loaded.template.tokenizer)),
        grammar=grammar,
    )


def _logit_bias(biases: dict[str, float], vocabulary: int) -> dict[int, float]:
    for key in biases:
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < vocabulary):
            message = f"Invalid key in 'logit_bias': {key[:40]}. Maximum value is {vocabulary - 1}."
            raise Refusal(message, param="logit_bias", code="invalid_value")
    return {int(key): value for key, value in biases.items()}


def samplings_of(sampling: Sampling, count: int) -> list[Sampling]:
    """Return the same sampling for several answers; with a seed each gets its own, so that they differ."""
    if sampling.seed is None:
        return [sampling] * count
    return [replace(sampling, seed=sampling.seed + which) for which in range(count)]


def room_for(seat: Seat, prompt: Sequence[int], *, wanted: int | None, what: str) -> int:
    """Return how many tokens the answer may have; Refusal where the prompt fills the context."""
    context, used = seat.loaded.context, len(prompt)
    if used < context:
        return min(wanted or context, context - used)
    if what == "messages":
        message = (
            f"This model's maximum context length is {context} tokens. However, your messages resulted in {used} "
            "tokens. Please reduce the length of the messages."
        )
    else:
        message = (
            f"This model's maximum context length is {context} tokens, however you requested {used + (wanted or 0)} "
            f"tokens ({used} in your prompt; {wanted or 0} for the completion). "
            "Please reduce your prompt; or completion length."
        )
    raise Refusal(message, code="context_length_exceeded", param=what)


def usage_of(prompts: Sequence[Sequence[int]], heard: Sequence[Hearing]) -> Json:
    """Return what was computed; a prompt with several answers counts once."""
    asked, said = sum(map(len, prompts)), sum(hearing.new_tokens for hearing in heard)
    cached = min(asked, sum(hearing.cached_tokens for hearing in heard[:: max(1, len(heard) // len(prompts))]))
    details = {"cached_tokens": cached, "audio_tokens": 0}
    usage = Usage.model_validate(
        {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
            "prompt_tokens_details": details,
        }
    )
    return usage.model_dump()


def head_of(seat: Seat, kind: str, prefix: str) -> Json:
    """Return the fields that all chunks of a reply share."""
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": seat.name,
        "system_fingerprint": seat.loaded.fingerprint,
    }


def chances_of(tokens: Sequence[Spoken]) -> list[Json]:
    """Return tokens with their log-probabilities as chat tells them."""
    return [
        {**_chance(token.chosen), "top_logprobs": [_chance(other) for other in token.alternatives]} for token in tokens
    ]


def _chance(chance: Chance) -> Json:
    return {"token": chance.text, "bytes": list(chance.utf8), "logprob": max(chance.logprob, LEAST_LOGPROB)}
