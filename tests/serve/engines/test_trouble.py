"""A request's odd wishes and a listener's faults stay that request's and that listener's."""

import math
import time

import pytest
import torch
from tests.serve.made import WAIT_S, Listener, ask, check_as_offline, check_idle, greedy, prompt, running, spec

from luthier.core.errors import LuthierError
from luthier.serve.constrain import GrammarError, json_schema
from luthier.serve.request import Ask, EngineError, Piece, Sampling
from luthier.serve.sampling import Chooser

IDS = prompt(9, seed=80)


@pytest.fixture(scope="module")
def known(offline):
    return offline("llama")


@pytest.fixture(scope="module")
def engine(known):
    with running(known.base, spec(rows=4)) as made:
        yield made


@pytest.mark.parametrize("top_p", [1.0, 0.5, 1e-9])
@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-6])
def test_nearly_no_temperature_is_greedy(engine, known, temperature: float, top_p: float) -> None:
    cold = Sampling(16, temperature=temperature, top_p=top_p, seed=1, logprobs=0)
    beside, heard = ask(engine, IDS, greedy(30)), ask(engine, IDS, cold)
    check_as_offline(heard, known, IDS)
    check_as_offline(beside, known, IDS, tokens=30)


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
def test_top_p_of_a_large_vocabulary_is_the_smallest_set(spread: float, top_p: float) -> None:
    logits = spread * torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    ordered, tokens = logits.double().softmax(dim=-1).sort(descending=True)
    share = ordered.cumsum(dim=-1)
    # Sums of so many small numbers are near each other, and in fp32 a little off.
    kept = set(tokens[: int((share < top_p + 1e-4).sum()) + 1].tolist())
    chooser = Chooser(Sampling(1, top_p=top_p, seed=2))
    drawn = [chooser.choose(logits) for _ in range(300)]
    assert set(drawn) <= kept
    # A drawn token's rank by probability is as often in the lower half of the set's mass as in the upper.
    half = set(tokens[: int((share < top_p / 2).sum()) + 1].tolist())
    expected = float(share[len(half) - 1]) / float(share[len(kept) - 1])
    found = sum(token in half for token in drawn) / len(drawn)
    assert abs(found - expected) < 5 * math.sqrt(max(expected * (1 - expected), 0.01) / len(drawn))


@pytest.mark.parametrize("when", ["first", "later", "last"])
def test_a_listener_that_fails_does_not_end_the_engine(engine, known, when: str) -> None:
    pieces: list[Piece | LuthierError] = []

    def broken(said: Piece | LuthierError) -> None:
        pieces.append(said)
        is_last = isinstance(said, Piece) and said.finish is not None
        if {"first": len(pieces) == 1, "later": len(pieces) == 3, "last": is_last}[when]:
            raise ValueError("cannot hear")

    beside = ask(engine, IDS, greedy(40))
    engine.submit(Ask(IDS, greedy(20)), broken)
    check_as_offline(beside, known, IDS, tokens=40)
    check_as_offline(ask(engine, IDS), known, IDS)
    check_idle(engine)
    assert pieces and sum(isinstance(said, Piece) and said.finish is not None for said in pieces) == 1


def test_a_choice_that_fails_ends_its_own_row_only(engine, known) -> None:
    beside, heard = ask(engine, IDS, greedy(40)), Listener()
    row = engine.submit(Ask(IDS, greedy(400, logit_bias=dict.fromkeys(engine.stop_ids, -1e4))), heard)
    assert heard.began.wait(WAIT_S)
    row.chooser = None
    assert isinstance(heard.wait().error, EngineError)
    check_as_offline(beside, known, IDS, tokens=40)
    check_idle(engine)


@pytest.mark.parametrize("depth", [200, 3000])
def test_a_schema_too_deep_is_refused(depth: int) -> None:
    schema: dict = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    with pytest.raises(GrammarError) as refused:
        json_schema(schema)
    assert "\n" not in (refused.value.why or "")


def test_a_form_that_nothing_has_is_told_in_one_line(engine, known) -> None:
    endless = json_schema({"$ref": "#"})
    heard = ask(engine, IDS, greedy(grammar=endless)).wait()
    assert isinstance(heard.error, GrammarError) and "\n" not in heard.error.why
    check_as_offline(ask(engine, IDS), known, IDS)


def test_what_grammars_share_is_made_before_anybody_asks(known) -> None:
    with running(known.base, spec()) as engine:
        end = time.monotonic() + WAIT_S
        while engine._grammars._own is None and time.monotonic() < end:
            time.sleep(0.005)
        assert engine._grammars._own is not None
