"""Adapters come and go under full traffic: no answer is wrong, none fails, and memory does not grow."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from tests.serve.made import Listener, Offline, ask, check_idle, greedy, prompt, running, save_adapter, spec

from luthier.core.errors import LuthierError
from luthier.serve.engines.transformers import TransformersEngine
from luthier.serve.request import Ask

SWAPS = 1000 if os.environ.get("LUTHIER_PROOF") else 100
ADAPTERS, THREADS, TOKENS = 16, 8, 8
TOGETHER = 4
"""Adapters unloaded and asked again at once."""
MOST_GROWTH_BYTES = 32_000_000
PROMPTS = [prompt(7, seed=60), prompt(30, seed=61), *(prompt(48, seed=62) + prompt(end) for end in (5, 21))]


class Traffic:
    """Threads that ask and compare until they are told to end."""

    def __init__(self, engine: TransformersEngine, known: Offline, whose: Sequence[Path | None]) -> None:
        self.engine, self.known, self.whose = engine, known, whose
        self.counts: Counter[str] = Counter(answers=0, wrong=0, errors=0, cancelled=0)
        self._counting, self._end = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(seed,)) for seed in range(THREADS)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def count(self, what: str) -> None:
        with self._counting:
            self.counts[what] += 1

    def compare(self, ids: tuple[int, ...], *whose: Path | None) -> None:
        """Ask each once, together, and count how it went."""
        heard = [ask(self.engine, ids, greedy(TOKENS), one) for one in whose]
        for listener, one in zip(heard, whose, strict=True):
            if listener.wait().error is not None or listener.late:
                self.count("errors")
            elif listener.tokens != self.known.greedy(ids, TOKENS, one):
                self.count("wrong")
            self.count("answers")

    def _visit(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self._end.is_set():
            ids, whose = draw.choice(PROMPTS), draw.choice(self.whose)
            try:
                if draw.random() < 0.1:
                    self._leave_early(ids, whose, draw)
                else:
                    self.compare(ids, whose)
            except (LuthierError, AssertionError):
                self.count("errors")

    def _leave_early(self, ids: tuple[int, ...], whose: Path | None, draw: random.Random) -> None:
        heard = Listener()
        ticket = self.engine.submit(Ask(ids, greedy(TOKENS), whose), heard)
        if draw.random() < 0.5:
            heard.began.wait()
        ticket.cancel()
        self.count("errors" if heard.wait().error else "cancelled")


@pytest.fixture(scope="module")
def adapters(offline, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("swapped")
    base = offline("llama").base
    return [save_adapter(base, root / f"{seed}", seed=seed, r=1 + seed % 8) for seed in range(ADAPTERS)]


def unloaded(engine: TransformersEngine, adapters: Sequence[Path]) -> int:
    """Unload adapters; return how many went, which they do not while others use them."""
    for adapter in adapters:
        engine.unload(adapter)
    gone: set[Path] = set()
    for _ in range(20):
        gone |= set(adapters) - engine._shelf.registry.places.keys()
        time.sleep(0.0005)
    return len(gone)


def test_swaps_under_traffic_change_no_answer(offline, adapters, record_property) -> None:
    known, draw = offline("llama"), random.Random(5)
    whose: list[Path | None] = [*adapters, None]
    for ids in PROMPTS:
        answers = {known.greedy(ids, TOKENS, adapter) for adapter in whose}
        assert len(answers) > ADAPTERS / 2, "the adapters' answers can hardly be told apart"

    process, swaps, warm_bytes = psutil.Process(), 0, 0
    with running(known.base, spec(rows=6, prefill_tokens=32, prefix_bytes=1_000_000)) as engine:
        with Traffic(engine, known, whose) as traffic:
            for _ in range(50 * SWAPS):
                some = draw.sample(adapters, TOGETHER)
                swaps += unloaded(engine, some)
                traffic.compare(draw.choice(PROMPTS), *some)
                if swaps * 2 >= SWAPS and not warm_bytes:
                    warm_bytes = process.memory_info().rss
                if swaps >= SWAPS:
                    break
        check_idle(engine)
        growth = process.memory_info().rss - warm_bytes
        assert engine.stats().adapters <= ADAPTERS

    counts = traffic.counts
    record_property("claim", "Adapters swapped under the traffic of 8 threads: 0 wrong answers, 0 errors")
    for name, value in {"swaps": swaps, **counts, "memory_growth_bytes": max(growth, 0)}.items():
        record_property(name, value)
    assert (counts["wrong"], counts["errors"]) == (0, 0), counts
    assert swaps >= SWAPS and counts["answers"] > SWAPS and counts["cancelled"]
    assert growth < MOST_GROWTH_BYTES, f"memory grew by {growth:,} bytes"


def test_the_comparison_sees_a_wrong_adapter(offline, adapters) -> None:
    """Where adapters were mixed up, the counts would say so."""
    known = offline("llama")
    with running(known.base, spec()) as engine:
        traffic = Traffic(engine, known, [])
        traffic.engine = Mixing(engine, dict(zip(adapters, [*adapters[1:], adapters[0]], strict=True)))
        for adapter in adapters:
            traffic.compare(PROMPTS[1], adapter)
    assert traffic.counts["answers"] == ADAPTERS and traffic.counts["wrong"] > ADAPTERS / 2


class Mixing:
    """Asks for another adapter than was meant."""

    def __init__(self, engine: TransformersEngine, instead: dict[Path, Path]) -> None:
        self.engine, self.instead = engine, instead

    def submit(self, asked: Ask, heard: Listener) -> object:
        return self.engine.submit(Ask(asked.ids, asked.sampling, self.instead[asked.adapter]), heard)
