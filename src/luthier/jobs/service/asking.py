"""A question to a served model from within the service, as chat would ask it."""

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.jobs.service.inference import Inference, Seat
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.talk import Hearing, Manner, messages_of
from luthier.score.graders.graded import Question, Reply
from luthier.serve.request import Sampling

MOST_TOKENS = 2048
"""Of an answer whose length nobody limits."""


async def answer(inference: Inference, question: Question, owner: str) -> Reply:
    """Return the model's whole answer; raises a Refusal."""
    seat = await inference.take(question.model, owner)
    try:
        return await _answered(seat, question)
    finally:
        seat.close()


async def vectors(inference: Inference, model: str, texts: Sequence[str], owner: str) -> list[list[float]]:
    """Return a vector per text; of longer texts what fits the model's context."""
    seat = await inference.take(model, owner)
    try:
        # A model has no vector for nothing at all; a space comes close.
        prompts = [(await seat.text_ids(text or " "))[: seat.loaded.context] for text in texts]
        return await seat.embed(prompts)
    finally:
        seat.close()


async def _answered(seat: Seat, question: Question) -> Reply:
    tools = list(question.sampling.get("tools") or ())
    names = frozenset(tool["function"]["name"] for tool in tools)
    ids = await seat.messages_ids(messages_of([dict(message) for message in question.messages]), tools)
    sampling = _sampling(question.sampling, room=seat.loaded.context - len(ids))
    # A grammar begins with the answer's first token: there is no thought before it.
    thinks = None if sampling.grammar else seat.loaded.template.opens_thought
    hearing = Hearing(Manner(names, opens_thought=thinks))
    async for _, piece in seat.ask([ids], [sampling]):
        hearing.hear(piece)
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in hearing.calls
    ]
    return Reply(
        text=hearing.text,
        model=seat.name,
        prompt_tokens=len(ids),
        completion_tokens=hearing.new_tokens,
        cached_tokens=min(hearing.cached_tokens, len(ids)),
        finish_reason=hearing.finish or "stop",
        message={"tool_calls": calls} if calls else None,
    )


def _sampling(asked: Mapping[str, Any], *, room: int) -> Sampling:
    if room < 1:
        message = "This model's maximum context length is exceeded. Please reduce the length of the messages."
        raise Refusal(message, code="context_length_exceeded", param="messages")
    return Sampling(
        max_tokens=min(asked.get("max_completion_tokens", MOST_TOKENS), room),
        temperature=asked.get("temperature", 1.0),
        top_p=asked.get("top_p", 1.0),
        seed=asked.get("seed"),
        grammar=grammar_of(asked.get("response_format") or {}),
    )


def grammar_of(form: Mapping[str, Any]) -> str | None:
    """Return what keeps an answer to a response_format; raises LuthierError where its schema cannot be used."""
    if form.get("type") not in ("json_object", "json_schema"):
        return None
    from luthier.serve.constrain import json_object, json_schema

    return json_object() if form["type"] == "json_object" else json_schema(form["json_schema"].get("schema") or {})
