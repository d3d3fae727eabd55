"""Adapters that cannot stand beside others have an engine of their own, which says what the tuned model says."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.model.adapters import CASES, Tuned

from luthier.core.errors import LuthierError
from luthier.model.adapter import load_tuned
from luthier.model.generate import generate
from luthier.model.load import load_tokenizer
from luthier.model.template import Template
from luthier.serve.adapters import why_not_beside
from luthier.serve.constrain import json_schema
from luthier.serve.engines.alone import AloneEngine
from luthier.serve.engines.open import open_adapter
from luthier.serve.engines.transformers import TransformersEngine
from luthier.serve.request import Ask, EngineError, Piece, QueueFullError, Sampling
from luthier.serve.spec import ServeSpec

WAIT_S = 60
IDS = tuple(range(40, 52))
BESIDE = ("lora", "lora-gaussian", "lora-orthogonal", "lora-pissa", "lora-olora", "lora-eva")


class Listener:
    """Keeps what an engine says until the last piece."""

    def __init__(self) -> None:
        self.said: list[Piece] = []
        self.error: LuthierError | None = None
        self.ended = threading.Event()

    def __call__(self, said: Piece | LuthierError) -> None:
        if isinstance(said, LuthierError):
            self.error = said
        else:
            self.said.append(said)
        if self.error or self.said[-1].finish:
            self.ended.set()

    @property
    def text(self) -> str:
        assert self.ended.wait(WAIT_S)
        return "".join(piece.text for piece in self.said)


@pytest.fixture
def made(tmp_path: Path):
    tuned = Tuned(tmp_path, "llama", CASES["prefix_tuning"])
    engine = AloneEngine(tuned.base, tuned.saved(tmp_path / "weights"), ServeSpec(rows=1, queue=1, threads=1))
    yield tuned, engine
    engine.close()


def ask(engine: AloneEngine, ids=IDS, **changes) -> Listener:
    heard = Listener()
    sampling = Sampling(**{"max_tokens": 8, "temperature": 0, **changes})
    engine.submit(Ask(tuple(ids), sampling), heard)
    return heard


@pytest.mark.parametrize("case", [name for name, spec in CASES.items() if not spec.traits.whole])
def test_each_adapter_is_served_as_it_was_trained(case: str, tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, "llama", CASES[case])
    weights = tuned.saved(tmp_path / "weights")
    engine, adapter = open_adapter(tuned.base, weights, ServeSpec(threads=1))
    try:
        said = torch.from_numpy(engine.chances(IDS, [3, 4], adapter))
    finally:
        engine.close()
    assert (type(engine) is TransformersEngine) == (case in BESIDE) == (adapter is not None)
    assert (why_not_beside(weights) is None) == (case in BESIDE)
    with torch.inference_mode():
        expected = tuned.model.eval()(input_ids=torch.tensor([[*IDS, 3, 4]])).logits[0, -3:].log_softmax(dim=-1)
    assert torch.allclose(said, expected, atol=1e-4)


def test_it_answers_as_the_tuned_model_does_and_tells_chances(made, tmp_path: Path) -> None:
    tuned, engine = made
    template = Template(load_tokenizer(tuned.base))
    model = load_tuned(tuned.base, tmp_path / "weights")
    [expected] = generate(model, template, [list(IDS)], max_new_tokens=8)
    heard = ask(engine, logprobs=2)
    assert heard.text == expected.text
    spoken = [one for piece in heard.said for one in piece.tokens]
    assert [one.chosen.id for one in spoken] == expected.ids
    chances = engine.chances(IDS, expected.ids)
    assert np.allclose([one.chosen.logprob for one in spoken], chances[range(len(spoken)), expected.ids], atol=1e-4)
    assert all(len(one.alternatives) == 2 for one in spoken)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.prompt_tokens) == (0, 0, len(IDS)) and stats.answer_tokens >= 8
    assert engine.render([{"role": "user", "content": "hi"}]).endswith("assistant\n")
    assert template.tokenizer.decode(engine.encode("hi")) == "hi"


def test_a_seed_gives_the_same_answer_again_and_a_schema_is_kept(made) -> None:
    _, engine = made
    drawn = [ask(engine, temperature=1.5, seed=3).text for _ in range(2)]
    assert drawn[0] == drawn[1]
    grammar = json_schema({"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]})
    assert "".join(ask(engine, grammar=grammar, max_tokens=80).text.split()).startswith('{"a"')


def test_what_does_not_fit_is_refused_and_the_end_is_told(made) -> None:
    _, engine = made
    with pytest.raises(ValueError, match="context"):
        ask(engine, ids=[7] * int(engine.context))
    assert engine.context == 512 - 5
    ends = dict.fromkeys(engine.stop_ids, -1e4)
    first, second = (ask(engine, max_tokens=300, logit_bias=ends) for _ in range(2))
    with pytest.raises(QueueFullError):
        ask(engine)
    engine.close()
    assert first.ended.wait(WAIT_S) and second.ended.wait(WAIT_S)
    assert isinstance(second.error, EngineError)
    with pytest.raises(EngineError, match="closed"):
        engine.chances(IDS, [])


def test_vectors_have_unit_length_and_know_the_adapter(made, tmp_path: Path) -> None:
    tuned, engine = made
    found = np.array(engine.embed([IDS, IDS[:3]]))
    assert found.shape == (2, 32) and np.allclose(np.linalg.norm(found, axis=1), 1)
    with torch.inference_mode():
        output = tuned.model.eval()(input_ids=torch.tensor([list(IDS)]), output_hidden_states=True)
        mean = output.hidden_states[-1][0].mean(dim=0)
    assert np.allclose(found[0], (mean / mean.norm()).numpy(), atol=1e-5)
