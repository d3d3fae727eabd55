"""One base in memory, held while it is used; who comes to a full line is told so."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from tests.api.fakes import FakeEngine, inference_with, pieces_of

from luthier.core.errors import ModelError
from luthier.examples.example import Message
from luthier.jobs.service.inference import EMBEDDINGS_WAITING, Inference, Seat
from luthier.jobs.service.refusal import Refusal
from luthier.serve.request import Sampling

HI = (Message(role="user", content="hi"),)


def with_inference(work: Callable[[Inference, dict[str, FakeEngine]], Coroutine], **options: object) -> object:
    """Run a test's coroutine with an inference over fake engines, by base."""
    engines: dict[str, FakeEngine] = {}

    def make(base_model: str) -> FakeEngine:
        if base_model == "other-base" and options.get("broken"):
            raise ModelError("the weights are incomplete", why="1 tensor is missing")
        engines[base_model] = FakeEngine(**{k: v for k, v in options.items() if k != "broken"})
        return engines[base_model]

    inference = inference_with(make)
    try:
        return asyncio.run(work(inference, engines))
    finally:
        inference.close()


async def say(seat: Seat, **sampling: object) -> str:
    ids = await seat.messages_ids(HI)
    answers = seat.ask([ids], [Sampling(max_tokens=9, **sampling)])
    return "".join([piece.text async for _, piece in answers])


def test_rows_of_adapters_and_base_go_to_one_engine() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        base, tuned = await inference.take("tiny", "default"), await inference.take("ft:tiny:luthier::abc", "default")
        assert await asyncio.gather(say(base, seed=1), say(tuned, seed=2)) == [
            "base says hello, 1",
            "abc says hello, 2",
        ]
        assert [ask.adapter for ask in engines["tiny-base"].asks] == [None, Path("/adapters/abc")]
        assert list(engines) == ["tiny-base"] and tuned.name == "ft:tiny:luthier::abc"

    with_inference(work)


def test_a_base_is_loaded_once_however_many_ask_at_once() -> None:
    opened = []

    def slow(base_model: str) -> FakeEngine:
        opened.append(base_model)
        time.sleep(0.2)
        return FakeEngine()

    inference = inference_with(slow)

    async def work() -> None:
        seats = await asyncio.gather(*(inference.take("tiny", "default") for _ in range(8)))
        assert inference._users == 8
        for seat in (*seats, *seats):
            seat.close()

    asyncio.run(work())
    assert opened == ["tiny-base"] and inference._users == 0
    inference.close()


def test_an_idle_base_makes_room_and_a_busy_one_does_not() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        seat = await inference.take("tiny", "default")
        with pytest.raises(Refusal) as busy:
            await inference.take("other", "default")
        assert (busy.value.status, busy.value.retry_after_s) == (503, 5) and not engines["tiny-base"].closed
        seat.close()
        assert (await inference.take("other", "default")).loaded.base_model == "other-base"
        assert engines["tiny-base"].closed and not engines["other-base"].closed

    with_inference(work)


def test_a_base_that_cannot_be_loaded_is_refused_and_the_next_one_works() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        with pytest.raises(Refusal, match="weights are incomplete") as broken:
            await inference.take("other", "default")
        assert (broken.value.status, broken.value.error_code) == (503, "model_not_ready")
        assert await say(await inference.take("tiny", "default")) == "base says hello, None"

    with_inference(work, broken=True)


def test_other_projects_models_are_not_there() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        with pytest.raises(Refusal) as refused:
            await inference.take("tiny", "somebody else")
        assert refused.value.status == 404 and engines == {}

    with_inference(work)


def test_closing_a_seat_cancels_its_rows() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        seat = await inference.take("tiny", "default")
        answers = seat.ask([(1,), (2,)], [Sampling(max_tokens=9)] * 2)
        await answers.begun()
        seat.close()
        assert all(ticket.cancelled.wait(5) for ticket in engines["tiny-base"].tickets)

    with_inference(work, pause_s=0.05)


def test_an_answer_goes_on_when_its_first_piece_was_waited_for() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        seat = await inference.take("tiny", "default")
        answers = seat.ask([(1,)], [Sampling(max_tokens=9)])
        await answers.begun()
        await answers.begun()
        assert "".join([piece.text async for _, piece in answers]) == "base says hello, None"

    with_inference(work)


def test_a_listener_whose_loop_has_ended_harms_no_one() -> None:
    engine = FakeEngine(lambda ask: pieces_of("a" * 60), pause_s=0.01)
    inference = inference_with(lambda name: engine)

    async def leave() -> None:
        seat = await inference.take("tiny", "default")
        await seat.ask([(1,)], [Sampling(max_tokens=9)]).begun()

    failures: list[threading.ExceptHookArgs] = []
    before, threading.excepthook = threading.excepthook, failures.append
    asyncio.run(leave())
    time.sleep(0.5)
    threading.excepthook = before
    assert not failures
    inference.close()


def test_embeddings_have_a_line_of_their_own() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        seat = await inference.take("tiny", "default")
        gate = threading.Event()
        engines["tiny-base"].embed = lambda prompts, adapter: [[1.0]] if gate.wait(10) else []
        waiting = [asyncio.ensure_future(seat.embed([[1]])) for _ in range(EMBEDDINGS_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as full:
            await seat.embed([[1]])
        assert full.value.status == 429
        assert await say(seat) == "base says hello, None"
        gate.set()
        assert await asyncio.gather(*waiting) == [[[1.0]]] * EMBEDDINGS_WAITING

    with_inference(work)


def test_a_deleted_adapter_is_forgotten() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        inference.forget(Path("/adapters/abc"))
        await inference.take("tiny", "default")
        inference.forget(Path("/adapters/abc"))
        assert engines["tiny-base"].forgotten == [Path("/adapters/abc")]
        assert inference.stats().running == 1

    with_inference(work)


def test_an_evil_template_is_refused_and_others_go_on() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        seat = await inference.take("tiny", "default")
        evil = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        template = seat.loaded.template
        good, template.tokenizer.chat_template = template.tokenizer.chat_template, evil
        start = time.monotonic()
        with pytest.raises(Refusal) as refused:
            await seat.messages_ids(HI)
        assert refused.value.error_code == "template_limit" and time.monotonic() - start < 2
        template.tokenizer.chat_template = good
        assert await say(seat) == "base says hello, None"

    with_inference(work)


def test_names_and_adapters_stay_with_their_seats() -> None:
    async def work(inference: Inference, engines: dict[str, FakeEngine]) -> None:
        alias = await inference.take("gpt-4o-mini", "default")
        assert (alias.name, alias.adapter) == ("tiny", None)

    with_inference(work)
