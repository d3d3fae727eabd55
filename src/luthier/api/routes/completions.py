"""POST /completions: raw text is continued, as models trained on raw text expect it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from luthier.api.shapes_talk import Completion, CompletionRequest, Json
from luthier.api.talking import (
    LEAST_LOGPROB,
    SSE,
    ClientLeft,
    Stream,
    check_ids,
    events_of,
    head_of,
    hear_all,
    nobody_there,
    room_for,
    sampling_of,
    samplings_of,
    take,
    texts_or_ids,
    usage_of,
    while_there,
)
from luthier.jobs.service.inference import Answers, Seat
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.talk import Hearing, Manner
from luthier.serve.request import Chance, Spoken

USUAL_TOKENS = 16
"""An answer's length where none is asked for, as hosted."""
MOST_ROWS = 128
router = APIRouter(tags=["completions"])


@router.post(
    "/completions",
    response_model=Completion,
    response_model_exclude_unset=True,
    responses={200: SSE},
    operation_id="createCompletion",
)
async def create_completion(request: Request, body: CompletionRequest) -> Any:
    """Continue one text or several."""
    return await answer_completion(request, body)


@dataclass(frozen=True)
class Continued:
    """Texts under way."""

    body: CompletionRequest
    seat: Seat
    prompts: list[tuple[int, ...]]
    shown: list[str]
    """What stands before each continuation: its prompt where `echo` asks for it."""
    heard: list[Hearing]
    """All answers to the first prompt, then to the second, and so on."""

    @property
    def count(self) -> int:
        """Answers per prompt."""
        return self.body.n or 1


async def answer_completion(request: Request, body: CompletionRequest, *, model: str | None = None) -> Response | Json:
    """Continue texts; `model` stands in for the body's where the address names a deployment."""
    _refuse(body)
    with ExitStack() as held:
        seat = await take(request, model or body.model)
        held.callback(seat.close)
        work = await _begin(body, seat)
        answers = _ask(work)
        try:
            await while_there(request, answers.begun())
            if body.stream:
                return Stream(events_of(_chunks(work, answers)), held.pop_all())
            await while_there(request, hear_all(answers, work.heard))
        except ClientLeft:
            return nobody_there()
    return _whole(work)


def _refuse(body: CompletionRequest) -> None:
    """Refuse by name what is not done."""
    undone = {
        "suffix": body.suffix,
        "best_of": body.best_of is not None and body.best_of != (body.n or 1),
        "logprobs": body.echo and body.logprobs is not None,
    }
    why = {"best_of": " other than equal to 'n'", "logprobs": " together with 'echo'"}
    for name, wanted in undone.items():
        if wanted:
            message = f"Unsupported parameter: '{name}'{why.get(name, '')} is not supported with this model."
            raise Refusal(message, code="unsupported_parameter", param=name)


async def _begin(body: CompletionRequest, seat: Seat) -> Continued:
    given = texts_or_ids(body.prompt, "prompt")
    if len(given) * (body.n or 1) > MOST_ROWS:
        message = f"Too many answers: at most {MOST_ROWS} in one request, prompts times 'n'."
        raise Refusal(message, code="invalid_value", param="prompt")
    template = seat.loaded.template
    prompts = []
    for item in given:
        ids = await seat.text_ids(item) if isinstance(item, str) else check_ids(seat, item, "prompt")
        # With nothing to continue, a model begins a new text.
        prompts.append(tuple(ids) or (template.eos_id,))
    shown = [
        "" if not body.echo else item if isinstance(item, str) else template.tokenizer.decode(item) for item in given
    ]
    return Continued(body, seat, prompts, shown, [Hearing(Manner()) for _ in range(len(prompts) * (body.n or 1))])


def _ask(work: Continued) -> Answers:
    prompts, samplings = [], []
    for prompt in work.prompts:
        room = room_for(work.seat, prompt, wanted=work.body.max_tokens or USUAL_TOKENS, what="prompt")
        sampling = sampling_of(work.body, work.seat, max_tokens=room, logprobs=work.body.logprobs, grammar=None)
        prompts += [prompt] * work.count
        samplings += samplings_of(sampling, work.count)
    return work.seat.ask(prompts, samplings)


def _whole(work: Continued) -> Json:
    choices = []
    for index, hearing in enumerate(work.heard):
        shown = work.shown[index // work.count]
        logprobs = _logprobs(hearing.tokens, 0, work.body) if work.body.logprobs is not None else None
        choices.append(
            {"text": shown + hearing.text, "index": index, "logprobs": logprobs, "finish_reason": hearing.finish}
        )
    head = head_of(work.seat, "text_completion", "cmpl")
    return {**head, "choices": choices, "usage": usage_of(work.prompts, work.heard)}


async def _chunks(work: Continued, answers: Answers) -> AsyncIterator[Json]:
    head = head_of(work.seat, "text_completion", "cmpl")
    with_usage = work.body.stream_options is not None and bool(work.body.stream_options.include_usage)
    head |= {"usage": None} if with_usage else {}
    at = [0] * len(work.heard)
    waiting = [work.shown[index // work.count] for index in range(len(work.heard))]
    async for index, piece in answers:
        hearing = work.heard[index]
        text, waiting[index] = waiting[index] + "".join(map(str, hearing.hear(piece))), ""
        logprobs = _logprobs(piece.tokens, at[index], work.body) if piece.tokens else None
        at[index] += len(piece.text)
        choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": hearing.finish}
        yield {**head, "choices": [choice]}
    if with_usage:
        yield {**head, "choices": [], "usage": usage_of(work.prompts, work.heard)}


def _logprobs(tokens: Sequence[Spoken], offset: int, body: CompletionRequest) -> Json:
    """Return tokens in the old form; offsets count characters from the answer's start."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.chosen.text)
    return {
        "tokens": [token.chosen.text for token in tokens],
        "token_logprobs": [_logprob(token.chosen) for token in tokens],
        "top_logprobs": [{other.text: _logprob(other) for other in token.alternatives} for token in tokens]
        if body.logprobs
        else None,
        "text_offset": offsets,
    }


def _logprob(chance: Chance) -> float:
    return max(chance.logprob, LEAST_LOGPROB)
