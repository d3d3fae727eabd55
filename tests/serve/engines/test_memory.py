"""Answers that do not fit into memory together take turns, and say what they say alone."""

import math

import pytest
import torch
from tests.serve.made import ask, check_as_offline, check_idle, greedy, prompt, running, save_adapter, spec

from luthier.serve.pool import STEP_ROWS, STEP_TOKENS, Pool

TOKENS = 150
LONG, SHORT = prompt(150, seed=70), prompt(9, seed=71)


@pytest.fixture(scope="module")
def known(offline):
    return offline("llama")


def kept(known, steps: int) -> int:
    """Return the bytes of some steps of the pool."""
    with running(known.base, spec()) as engine:
        return steps * STEP_ROWS * STEP_TOKENS * engine._shape.token_bytes


def test_answers_that_grow_too_large_go_on_later(known, tmp_path) -> None:
    adapter = save_adapter(known.base, tmp_path / "a", seed=70)
    asked = [(ids, whose) for ids in (LONG, SHORT) for whose in (None, adapter)]
    with running(known.base, spec(rows=8, answer_bytes=kept(known, 1))) as engine:
        sampling = greedy(TOKENS, logit_bias=dict.fromkeys(engine.stop_ids, -1e4))
        heard = [ask(engine, ids, sampling, whose) for ids, whose in asked]
        largest, most = 0, 0
        while not all(listener.ended.wait(0.001) for listener in heard):
            largest, most = max(largest, engine._pool._kv.nbytes), max(most, engine.stats().running)
        check_idle(engine)
        # The long one alone outgrows what is given, which is allowed; two never do.
        assert largest <= kept(known, 2) and most > 1
    with running(known.base, spec(rows=8)) as engine:
        for listener, (ids, whose) in zip(heard, asked, strict=True):
            alone = ask(engine, ids, sampling, whose).wait()
            assert listener.tokens == alone.tokens and len(listener.tokens) == TOKENS
            assert sum(piece.new_tokens for piece in listener.pieces) == TOKENS
            assert sum(piece.cached_tokens > 0 for piece in listener.pieces) <= 1


def test_one_that_went_back_in_line_is_counted_once(known) -> None:
    with running(known.base, spec(rows=8, answer_bytes=1)) as engine:
        heard = [ask(engine, prompt(length)) for length in (5, 20, 33)]
        for listener, length in zip(heard, (5, 20, 33), strict=True):
            check_as_offline(listener, known, prompt(length))
        assert engine.stats().prompt_tokens == 58


def test_the_pool_shrinks_with_its_rows(known) -> None:
    with running(known.base, spec()) as engine:
        pool = Pool(engine._shape)
    for tokens in (3, 2000, 5):
        pool.join(torch.full((*pool.shape.empty(tokens).shape,), float(tokens)))
    wide = pool._kv.nbytes
    pool.leave(1)
    for _ in range(STEP_ROWS):
        pool.join(pool.shape.empty(7))
    assert pool._kv.nbytes < wide
    assert pool.lengths == [3, 5, 7, 7, 7, 7]
    assert [float(pool._kv[0, 0, row, 0, length - 1, 0]) for row, length in ((0, 3), (1, 5))] == [3.0, 5.0]
    assert pool.bytes_with(2000, 1) > pool.bytes_with() == pool._kv.nbytes


@pytest.mark.parametrize("length", [1, 16, 17, 100])
def test_a_vector_made_in_pieces_is_that_of_the_whole(known, tmp_path, length: int) -> None:
    adapter, ids = save_adapter(known.base, tmp_path / "a", seed=72), prompt(length, seed=72)
    with running(known.base, spec(prefill_tokens=16)) as engine:
        answering = ask(engine, SHORT, greedy(60))
        for whose in (None, adapter):
            model = known.model(whose)
            inner = model.get_base_model() if whose else model
            with torch.no_grad():
                states = inner.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            expected = torch.nn.functional.normalize(states.mean(dim=0), dim=0)
            (vector,) = engine.embed([ids], whose)
            assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
            assert torch.tensor(vector) == pytest.approx(expected, abs=1e-4)
        check_as_offline(answering, known, SHORT, tokens=60)
