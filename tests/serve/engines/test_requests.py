"""The life of requests: cancelled, refused, failing, closed; and nobody's trouble is another's."""

import shutil
import threading
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.serve.made import (
    WAIT_S,
    Listener,
    ask,
    check_as_offline,
    check_idle,
    check_soon,
    greedy,
    prompt,
    running,
    save_adapter,
    spec,
)

from luthier.core.errors import LuthierError, ModelError
from luthier.serve.adapters import WEIGHTS
from luthier.serve.constrain import json_schema
from luthier.serve.engines.transformers import TransformersEngine
from luthier.serve.request import Ask, EngineError, Piece, QueueFullError, Sampling

LONG = 400
"""Tokens of an answer that is under way until it is cancelled."""
IDS = prompt(9, seed=40)


@pytest.fixture(scope="module")
def known(offline):
    return offline("llama")


@pytest.fixture(scope="module")
def adapter(known, tmp_path_factory):
    return save_adapter(known.base, tmp_path_factory.mktemp("adapter") / "a", seed=40)


@pytest.fixture
def engine(known):
    with running(known.base, spec(rows=4, queue=4, prefill_tokens=16)) as made:
        yield made


def endless(engine: TransformersEngine, tokens: int = LONG, **changes) -> Sampling:
    return greedy(tokens, logit_bias=dict.fromkeys(engine.stop_ids, -1e4), **changes)


class Gate:
    """A listener that holds the engine's thread at its first word, until it is opened."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.heard, self.open, self.there = Listener(), threading.Event(), threading.Event()
        self.ticket = engine.submit(Ask(IDS, endless(engine)), self)
        assert self.there.wait(WAIT_S)

    def __call__(self, said: Piece | LuthierError) -> None:
        self.there.set()
        self.open.wait(WAIT_S)
        self.heard(said)


def check_serves(engine: TransformersEngine, known) -> None:
    """The engine goes on as if nothing had happened."""
    check_as_offline(ask(engine, IDS), known, IDS)
    check_idle(engine)


def test_cancelled_before_it_is_looked_at(engine, known) -> None:
    gate, heard = Gate(engine), Listener()
    engine.submit(Ask(IDS, greedy()), heard).cancel()
    gate.open.set()
    assert (heard.wait().finish, heard.text) == ("cancelled", "")
    gate.ticket.cancel()
    check_serves(engine, known)


def test_cancelled_while_its_adapter_is_read(engine, known, adapter) -> None:
    heard = Listener()
    ticket = engine.submit(Ask(IDS, greedy(), adapter), heard)
    ticket.cancel()
    assert heard.wait().finish == "cancelled"
    engine.unload(adapter)
    check_serves(engine, known)
    check_soon(lambda: engine.stats().adapters == 0)


def test_cancelled_while_its_prompt_is_computed(engine, known) -> None:
    gate, heard = Gate(engine), Listener()
    ticket = engine.submit(Ask(prompt(450), greedy()), heard)
    steps = engine.stats().steps
    gate.open.set()
    while engine.stats().steps < steps + 3:
        time.sleep(0.0005)
    ticket.cancel()
    assert heard.wait().finish == "cancelled" and len(heard.pieces) == 1
    gate.ticket.cancel()
    check_serves(engine, known)


def test_cancelled_while_it_answers(engine, known) -> None:
    other, heard = ask(engine, prompt(20), endless(engine, 40)), Listener()
    ticket = engine.submit(Ask(IDS, endless(engine)), heard)
    assert heard.began.wait(WAIT_S)
    ticket.cancel()
    assert heard.wait().finish == "cancelled" and len(heard.tokens) < LONG
    assert len(other.wait().tokens) == 40
    check_serves(engine, known)


def test_cancelled_ones_leave_the_line_though_all_rows_are_taken(engine, known) -> None:
    heard = [Listener() for _ in range(4)]
    tickets = [engine.submit(Ask(IDS, endless(engine)), listener) for listener in heard]
    check_soon(lambda: engine.stats().running == 4)
    waiting = [Listener() for _ in range(4)]
    for listener in waiting:
        engine.submit(Ask(IDS, greedy()), listener).cancel()
    assert [listener.wait().finish for listener in waiting] == ["cancelled"] * 4
    assert not any(listener.finish for listener in heard)
    for ticket in tickets:
        ticket.cancel()
    check_serves(engine, known)


def test_a_full_line_refuses_and_says_when_to_come_back(engine, known) -> None:
    ask(engine, IDS).wait()
    gate = Gate(engine)
    heard = [ask(engine, IDS) for _ in range(7)]
    for _ in range(3):
        with pytest.raises(QueueFullError) as refused:
            engine.submit(Ask(IDS, greedy()), Listener())
        assert refused.value.retry_after_s >= 1
    assert engine.stats().waiting >= 4
    gate.open.set()
    for listener in heard:
        check_as_offline(listener, known, IDS)
    gate.ticket.cancel()
    check_serves(engine, known)


@pytest.mark.parametrize("where", ["base", "adapter"])
def test_closing_tells_everyone_once(known, adapter, where) -> None:
    with running(known.base, spec(rows=2, queue=20, prefill_tokens=16)) as engine:
        whose = adapter if where == "adapter" else None
        heard = [ask(engine, prompt(60, seed=seed), endless(engine), whose) for seed in range(6)]
        assert heard[0].began.wait(WAIT_S)
        engine.unload(adapter)
    told = [listener.wait().error for listener in heard]
    assert all(isinstance(error, EngineError) for error in told)
    assert not any(listener.late for listener in heard)
    for late in (lambda: engine.submit(Ask(IDS, greedy()), Listener()), lambda: engine.embed([IDS])):
        with pytest.raises(EngineError, match="closed"):
            late()
    with pytest.raises(EngineError, match="closed"):
        engine.embed([IDS], adapter)
    engine.unload(adapter)
    engine.close()


def test_nobody_is_forgotten_who_asks_while_it_closes(known, adapter) -> None:
    heard, ready = [], threading.Barrier(4)

    def visit(number: int) -> None:
        ready.wait()
        for turn in range(1000):
            try:
                heard.append(ask(engine, IDS, endless(engine), adapter if (number + turn) % 2 else None))
            except EngineError:
                return
            except QueueFullError:
                time.sleep(0.0001)

    with running(known.base, spec(rows=2, queue=500)) as engine:
        threads = [threading.Thread(target=visit, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        ready.wait()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert len(heard) > 3
    for listener in heard:
        assert listener.wait().error is not None or listener.finish


class Stumbling(TransformersEngine):
    """Fails at one step."""

    def __init__(self, *given) -> None:
        self.stumble = threading.Event()
        super().__init__(*given)

    def _step(self) -> None:
        if self.stumble.is_set() and self._rows:
            self.stumble.clear()
            raise RuntimeError("the machine stumbled")
        super()._step()


def test_a_step_that_fails_is_told_to_its_rows_and_no_others(known, adapter) -> None:
    engine = Stumbling(known.base, spec(rows=2))
    rows = [ask(engine, IDS, endless(engine), whose) for whose in (None, adapter)]
    for listener in rows:
        assert listener.began.wait(WAIT_S)
    waiting = [ask(engine, IDS, adapter=whose) for whose in (None, adapter)]
    engine.stumble.set()
    for listener in rows:
        error = listener.wait().error
        assert isinstance(error, EngineError) and "stumbled" not in str(error)
    for listener, whose in zip(waiting, (None, adapter), strict=True):
        check_as_offline(listener, known, IDS, whose)
    check_serves(engine, known)
    engine.close()


def test_a_prompt_that_fails_fails_alone(engine, known) -> None:
    before, bad = ask(engine, IDS, greedy(60)), ask(engine, (*IDS, 10**6), greedy(60))
    after = ask(engine, IDS, greedy(60))
    assert isinstance(bad.wait().error, EngineError)
    for listener in (before, after):
        check_as_offline(listener, known, IDS, tokens=60)
    check_serves(engine, known)


def test_who_has_gone_without_a_word_is_let_go(engine, known) -> None:
    told = []

    def gone(said: Piece | LuthierError) -> None:
        told.append(said)
        raise RuntimeError("Event loop is closed")

    other = ask(engine, IDS, greedy(30))
    engine.submit(Ask(IDS, endless(engine)), gone)
    check_as_offline(other, known, IDS, tokens=30)
    check_serves(engine, known)
    assert len(told) == 2 and told[-1].finish == "cancelled"


def test_a_bad_adapter_is_told_to_who_asked_and_nobody_else(engine, known, adapter, tmp_path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(adapter, cut)
    (cut / WEIGHTS).write_bytes((cut / WEIGHTS).read_bytes()[:99])
    dora = save_adapter(known.base, tmp_path / "dora", use_dora=True)
    heard = [(ask(engine, IDS, greedy(40), whose), whose) for whose in (None, cut, adapter, dora, None, tmp_path)]
    for listener, whose in heard:
        if whose in (None, adapter):
            check_as_offline(listener, known, IDS, whose, tokens=40)
        else:
            assert isinstance(listener.wait().error, ModelError) and not listener.pieces
    check_serves(engine, known)
    assert engine.stats().adapters == 1


def grown(adapter, folder, down: float, up: float):
    """Write an adapter all of whose numbers are two."""
    shutil.copytree(adapter, folder)
    tensors = load_file(adapter / WEIGHTS)
    filled = {name: torch.full_like(tensor, down if "lora_A" in name else up) for name, tensor in tensors.items()}
    save_file(filled, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize("numbers", [(1e30, 1e30), (3e38, 1e-6), (1e-6, 1e38)])
def test_an_adapter_that_overflows_ends_alone(engine, known, adapter, tmp_path, numbers) -> None:
    huge = grown(adapter, tmp_path / "huge", *numbers)
    gate = Gate(engine)
    asked = [(None, greedy(60)), (huge, Sampling(60)), (adapter, greedy(60)), (huge, greedy(60))]
    heard = [ask(engine, IDS, sampling, whose) for whose, sampling in asked]
    gate.open.set()
    gate.ticket.cancel()
    for listener, (whose, _) in zip(heard, asked, strict=True):
        if whose != huge:
            check_as_offline(listener, known, IDS, whose, tokens=60)
        else:
            assert isinstance(listener.wait().error, ModelError) and not listener.pieces
    for _ in range(4):
        check_serves(engine, known)


class Choking(TransformersEngine):
    """Cannot compute one prompt."""

    bad = prompt(9, seed=77)

    def _compute(self, pieces) -> torch.Tensor:
        if any(piece.row.ask.ids == self.bad for piece in pieces):
            raise RuntimeError("choked")
        return super()._compute(pieces)


def test_a_prompt_that_cannot_be_computed_is_nothing_to_those_beside_it(known) -> None:
    engine = Choking(known.base, spec(rows=8))
    under_way = ask(engine, IDS, greedy(60))
    assert under_way.began.wait(WAIT_S)
    asked = [prompt(7, seed=78), engine.bad, prompt(8, seed=79), prompt(6, seed=80)]
    heard = [ask(engine, ids) for ids in asked]
    assert isinstance(heard[1].wait().error, EngineError)
    for ids, listener in zip(asked, heard, strict=True):
        if ids != engine.bad:
            check_as_offline(listener, known, ids)
    check_as_offline(under_way, known, IDS, tokens=60)
    check_idle(engine)
    engine.close()


def test_several_prompts_share_a_pass(known, adapter) -> None:
    with running(known.base, spec(rows=8, prefix_bytes=0)) as engine:
        whose = [None, adapter, None, adapter]
        check_as_offline(ask(engine, IDS, greedy(1), adapter), known, IDS, adapter, tokens=1)
        asked = [prompt(9 + number, seed=81) for number in range(4)]
        gate, waits = threading.Event(), threading.Event()
        engine._orders.put(lambda: (waits.set(), gate.wait(WAIT_S)))
        assert waits.wait(WAIT_S)
        heard = [ask(engine, ids, greedy(1), who) for ids, who in zip(asked, whose, strict=True)]
        gate.set()
        for ids, who, listener in zip(asked, whose, heard, strict=True):
            check_as_offline(listener, known, ids, who, tokens=1)
        assert engine.stats().steps == 2 and engine.stats().answer_tokens == 5


class Poisoned(TransformersEngine):
    """A model that says no number to a row after some steps, as a broken adapter makes it."""

    def _step(self) -> None:
        if self._rows and self._counts["steps"] == 5:
            self._pool._kv[:, :, 0] = torch.nan
        super()._step()


def test_a_row_without_numbers_leaves_none_behind(known) -> None:
    engine = Poisoned(known.base, spec(rows=3))
    # The last row, which takes the first one's place, is shorter than the middle one: what lay there is in sight.
    heard = [ask(engine, prompt(length), endless(engine, 60)) for length in (30, 80, 40)]
    errors = [listener.wait().error for listener in heard]
    assert [isinstance(error, ModelError) for error in errors] == [True, False, False]
    for listener in (heard[1], heard[2]):
        assert len(listener.tokens) == 60
    for length in (3, 60):
        check_as_offline(ask(engine, prompt(length)), known, prompt(length))
    engine.close()


def test_a_long_prompt_does_not_hold_up_answers(engine, known) -> None:
    answering = ask(engine, IDS, endless(engine, 200))
    assert answering.began.wait(WAIT_S)
    long = ask(engine, prompt(450), greedy(1))
    assert long.wait().finish
    # 450 tokens in pieces of 16: a step between each two.
    between = len(answering.pieces)
    assert between >= 450 // 16 - 2
    answering.wait()


def test_unloading_while_in_use_waits(engine, known, adapter) -> None:
    heard = ask(engine, IDS, endless(engine, 120), adapter)
    assert heard.began.wait(WAIT_S)
    engine.unload(adapter)
    again = ask(engine, IDS, endless(engine, 120), adapter)
    engine.unload(adapter)
    said = [listener.wait().tokens for listener in (heard, again)]
    assert said[0] == said[1] and len(said[0]) == 120
    check_soon(lambda: engine.stats().adapters == 0)
    assert engine.stats().adapter_bytes == 0


def test_more_adapters_than_fit_take_turns(known, tmp_path) -> None:
    folders = [save_adapter(known.base, tmp_path / f"{seed}", seed=seed) for seed in range(5)]
    with running(known.base, spec(rows=8)) as engine:
        ask(engine, IDS, adapter=folders[0]).wait()
        limit = 2 * engine.stats().adapter_bytes
    with running(known.base, spec(rows=8, adapter_bytes=limit)) as engine:
        for _ in range(2):
            heard = [ask(engine, IDS, adapter=folder) for folder in folders]
            for listener, folder in zip(heard, folders, strict=True):
                check_as_offline(listener, known, IDS, folder)
        check_soon(lambda: engine.stats().adapter_bytes <= limit)
        assert engine.stats().adapters == 2


class Tight(TransformersEngine):
    """Counts the rows that had to make room."""

    def __init__(self, *given) -> None:
        self.put_back = 0
        super().__init__(*given)

    def _make_room(self) -> None:
        before = len(self._rows)
        super()._make_room()
        self.put_back += before - len(self._rows)


@pytest.mark.parametrize("limit", [1, 4 * 256 * 256], ids=["one at a time", "a few"])
def test_answers_that_do_not_fit_wait_and_go_on_where_they_were(known, adapter, limit) -> None:
    grammar = json_schema({"type": "string", "minLength": 60, "maxLength": 70})

    def samplings(engine: TransformersEngine) -> list[Sampling]:
        long = endless(engine, 90)
        drawn = Sampling(90, seed=5, logprobs=2, frequency_penalty=0.4, logit_bias=long.logit_bias)
        return [long, drawn, Sampling(100, seed=6, logprobs=0, grammar=grammar), endless(engine, 40)]

    with running(known.base, spec()) as engine:
        asked = [
            (prompt(180 + number, seed=50), sampling, [None, adapter][number % 2])
            for number, sampling in enumerate(samplings(engine))
        ]
        alone = [ask(engine, *one).wait() for one in asked]
    engine = Tight(known.base, spec(answer_bytes=limit, prefill_tokens=64))
    heard = [ask(engine, *one) for one in asked]
    for listener, expected in zip(heard, alone, strict=True):
        assert listener.wait().tokens == expected.tokens and listener.text == expected.text
        assert listener.finish == expected.finish
        assert [t.chosen.logprob for t in listener.spoken] == pytest.approx(
            [t.chosen.logprob for t in expected.spoken], abs=1e-4
        )
        assert sum(p.new_tokens for p in listener.pieces) == sum(p.new_tokens for p in expected.pieces)
    check_idle(engine)
    assert engine.put_back > 0 if limit > 1 else engine.put_back == 0
    assert engine.stats().prompt_tokens == sum(len(ids) for ids, _, _ in asked)
    engine.close()


def test_answers_put_back_in_line_can_be_cancelled_and_closed(known) -> None:
    engine = Tight(known.base, spec(answer_bytes=4 * 256 * 256))
    heard = [Listener() for _ in range(4)]
    tickets = [engine.submit(Ask(prompt(185, seed=51), endless(engine, 300)), listener) for listener in heard]
    check_soon(lambda: engine.put_back > 0)
    tickets[3].cancel()
    assert heard[3].wait().finish == "cancelled"
    engine.close()
    for listener in heard[:3]:
        assert listener.wait().error is not None or listener.finish == "length"
