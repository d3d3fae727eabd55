"""The ONNX engine: sampling, stop texts, grammars, cancelling, a full line, and what it cannot do."""

import json
import queue
from pathlib import Path

import pytest
from tests.export.wide import save_lora, save_wide

from luthier.core.errors import LuthierError, ModelError
from luthier.examples.example import Message
from luthier.export.formats.onnx import build, build_with_adapters
from luthier.export.spec import Form
from luthier.model.generate import generate
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.serve.constrain import json_schema
from luthier.serve.engines.onnx import OnnxEngine
from luthier.serve.engines.open import engine_of, open_engine
from luthier.serve.request import Ask, EngineError, Piece, QueueFullError, Sampling
from luthier.serve.spec import ServeSpec

SCHEMA = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_wide(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx")
    build(Form(name="onnx"), base, out)
    return out


@pytest.fixture(scope="module")
def engine(folder: Path):
    engine = open_engine(engine_of(folder), folder, ServeSpec(threads=1, rows=3))
    yield engine
    engine.close()


def answer(engine: OnnxEngine, ids, sampling: Sampling) -> tuple[str, list[Piece]]:
    heard: queue.SimpleQueue[Piece | LuthierError] = queue.SimpleQueue()
    engine.submit(Ask(tuple(ids), sampling), heard.put)
    pieces = []
    while not (pieces and pieces[-1].finish):
        said = heard.get(timeout=60)
        if isinstance(said, LuthierError):
            raise said
        pieces.append(said)
    return "".join(piece.text for piece in pieces), pieces


def prompts(template: Template) -> list[list[int]]:
    texts = ("is it warm?", "the thing in the house", "a", "1 2 3 ü 😀")
    return [template.messages_ids([Message(role="user", content=text)]) for text in texts]


def test_answers_side_by_side_are_those_of_transformers(engine, base: Path) -> None:
    template = Template(load_tokenizer(base))
    told = generate(load_model(base), template, prompts(template), max_new_tokens=12)
    heard = [queue.SimpleQueue() for _ in told]
    for ids, one in zip(prompts(template), heard, strict=True):
        engine.submit(Ask(tuple(ids), Sampling(12, temperature=0, logprobs=0)), one.put)
    for one, expected in zip(heard, told, strict=True):
        ids, finish = [], None
        while not finish:
            piece = one.get(timeout=60)
            ids, finish = ids + [spoken.chosen.id for spoken in piece.tokens], piece.finish
        assert ids == expected.ids and (finish == "stop") == expected.stopped


def test_it_templates_and_counts_tokens_as_training_does(engine, base: Path) -> None:
    template = Template(load_tokenizer(base))
    messages = [Message(role="user", content="ü 😀 <|im_end|> 12")]
    rendered = engine.render([{"role": "user", "content": messages[0].content}])
    assert engine.encode(rendered) == template.messages_ids(messages)
    assert engine.stop_ids == template.stop_ids and engine.context == 512


def test_a_seed_repeats_an_answer(engine) -> None:
    sampling = Sampling(16, temperature=1.0, seed=3)
    first, again = (answer(engine, [5, 6, 7], sampling)[0] for _ in range(2))
    assert first == again != answer(engine, [5, 6, 7], Sampling(16, temperature=1.0, seed=4))[0]


def test_a_stop_text_ends_an_answer(engine) -> None:
    whole, _ = answer(engine, [5, 6, 7], Sampling(16, temperature=0))
    stop = whole[2:4]
    text, pieces = answer(engine, [5, 6, 7], Sampling(16, temperature=0, stop=(stop,)))
    assert text == whole[: whole.index(stop)] and pieces[-1].finish == "stop"


def test_a_grammar_holds_an_answer(engine) -> None:
    text, _ = answer(engine, [5, 6, 7], Sampling(40, temperature=1.0, seed=1, grammar=json_schema(SCHEMA)))
    assert set(json.loads(text)) == {"yes"}


def test_whoever_stops_listening_leaves(engine) -> None:
    heard: queue.SimpleQueue[Piece | LuthierError] = queue.SimpleQueue()
    ticket = engine.submit(Ask((5, 6, 7), Sampling(400, temperature=0, logit_bias={272: -100.0})), heard.put)
    heard.get(timeout=60)
    ticket.cancel()
    while heard.get(timeout=60).finish != "cancelled":
        pass
    assert answer(engine, [5], Sampling(2, temperature=0))[1][-1].finish


def test_a_full_line_is_told(folder: Path) -> None:
    engine = OnnxEngine(folder, ServeSpec(threads=1, rows=1, queue=1))
    heard: queue.SimpleQueue[Piece | LuthierError] = queue.SimpleQueue()
    long = Ask((5, 6, 7), Sampling(400, temperature=0, logit_bias={272: -100.0}))
    try:
        with pytest.raises(QueueFullError):
            for _ in range(3):
                engine.submit(long, heard.put)
    finally:
        engine.close()
    told = []
    while not heard.empty():
        told.append(heard.get())
    assert sum(isinstance(one, EngineError) for one in told) == 2
    with pytest.raises(EngineError, match="closed"):
        engine.submit(long, heard.put)


def test_embeddings_are_refused_in_words(engine) -> None:
    with pytest.raises(EngineError, match="gives no embeddings"):
        engine.embed([[1, 2]])


def test_a_damaged_folder_is_refused(folder: Path, base: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot load"):
        OnnxEngine(tmp_path, ServeSpec(threads=1))
    with pytest.raises(ModelError, match="does not read this folder"):
        open_engine("onnx", base, ServeSpec())
    with pytest.raises(ModelError, match="no such adapter"):
        engine = OnnxEngine(folder, ServeSpec(threads=1))
        try:
            engine.chances([1], [2], tmp_path / "none.onnx_adapter")
        finally:
            engine.close()


def test_an_adapter_in_use_leaves_when_its_answer_has_ended(base: Path, tmp_path: Path) -> None:
    adapters = {name: save_lora(base, tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b"))}
    out = tmp_path / "out"
    out.mkdir()
    build_with_adapters(Form(name="onnx"), base, adapters, out)
    first, second = (out / "adapters" / f"{name}.onnx_adapter" for name in adapters)
    engine = OnnxEngine(out, ServeSpec(threads=1))
    heard: queue.SimpleQueue[Piece | LuthierError] = queue.SimpleQueue()
    try:
        ticket = engine.submit(Ask((5, 6, 7), Sampling(400, temperature=0, logit_bias={272: -100.0}), first), heard.put)
        heard.get(timeout=60)
        engine.unload(first)
        ticket.cancel()
        while heard.get(timeout=60).finish != "cancelled":
            pass
        # The thread goes on, and names are not given out twice.
        for adapter in (second, first, second):
            assert len(engine.chances([5, 6], [7], adapter)) == 2
            engine.unload(adapter)
    finally:
        engine.close()
