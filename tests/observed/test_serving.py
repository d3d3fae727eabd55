"""Every setting of an engine is seen in how it answers a few requests at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.observed.seen import Cases, unseen
from tests.serve.made import Listener, check_idle, greedy, prompt, running, save_adapter, save_model

from luthier.jobs.service.inference import open_base
from luthier.model.render import Renderer
from luthier.serve.engines.transformers import TransformersEngine
from luthier.serve.request import Ask, QueueFullError
from luthier.serve.spec import ServeSpec

LONG = prompt(150, seed=70)
PROMPTS = (LONG, *(prompt(9 + more, seed=71) for more in range(5)))
CASES: Cases = {
    ServeSpec: {
        "rows": 1,
        "queue": 1,
        "adapter_bytes": 1,
        "answer_bytes": 1,
        "prefix_bytes": 0,
        "prefill_tokens": 16,
        "engine": "onnx",
        "threads": 2,
    }
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [save_adapter(base, folder / str(seed), seed=seed) for seed in range(2)]


class Watching(Listener):
    """Looks at the engine with each word it hears."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self.look = look

    def __call__(self, said: Any) -> None:
        self.look()
        super().__call__(said)


def shown_by(spec: ServeSpec, base: Path, adapters: list[Path]) -> dict[str, Any]:
    """Return what an engine took and refused while six requests came at once, and then two with adapters."""
    with running(base, spec) as engine:
        seen = {"rows": 1, "refused": 0, "piece": 0}

        def look() -> None:
            seen["rows"] = max(seen["rows"], min(engine.stats().running, 2))

        def read(module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen["piece"] = max(seen["piece"], named["input_ids"].shape[1])

        engine._model.register_forward_pre_hook(read, with_kwargs=True)
        told, cached = engine.stats(), 0
        heard = [asked(engine, ids, look, seen) for ids in PROMPTS]
        answers = [listener.wait().tokens for listener in heard if listener]
        for ids, adapter in ((LONG, None), (LONG, None), (LONG, adapters[0]), (LONG, adapters[1])):
            answers.append(asked(engine, ids, look, seen, adapter).wait().tokens)
            check_idle(engine)
        engine._shelf._reader.submit(bool).result()
        told = engine.stats()
        cached = told.cached_prompt_tokens > 0
        threads = engine._on_thread(torch.get_num_threads)
        return seen | {"answers": sorted(answers), "cached": cached, "adapters": told.adapters, "threads": threads}


def asked(
    engine: TransformersEngine, ids: tuple[int, ...], look: Callable[[], None], seen: dict[str, int], adapter=None
) -> Listener | None:
    """Ask for a long answer, or count that it was refused."""
    heard = Watching(look)
    sampling = greedy(30, logit_bias=dict.fromkeys(engine.stop_ids, -1e4))
    try:
        engine.submit(Ask(ids, sampling, adapter), heard)
    except QueueFullError:
        seen["refused"] = 1
        return None
    return heard


def test_every_setting_of_an_engine_is_seen_in_how_it_answers(base: Path, adapters: list[Path]) -> None:
    changes = {name: value for name, value in CASES[ServeSpec].items() if name != "engine"}
    assert unseen(ServeSpec, changes, lambda spec: shown_by(spec, base, adapters), threads=1, rows=4) == []


def test_the_engine_that_is_named_must_read_the_model(base: Path) -> None:
    def opened(spec: ServeSpec) -> str:
        loaded = open_base(str(base), spec, Renderer())
        loaded.engine.close()
        return type(loaded.engine).__name__

    assert unseen(ServeSpec, {"engine": CASES[ServeSpec]["engine"]}, opened, threads=1) == []
