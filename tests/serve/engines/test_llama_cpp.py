"""The llama.cpp engine: as the others where they say the same, and its own limits in plain words."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.serve.made import Listener, Offline, ask, check_idle, check_soon, greedy, prompt, save_adapter, spec

from luthier.core.errors import ModelError
from luthier.examples.example import Example, Message
from luthier.export.formats.gguf import build
from luthier.export.spec import Form
from luthier.model.load import load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import tiny_tokenizer
from luthier.serve.engines.llama_cpp import LlamaCppEngine
from luthier.serve.engines.open import open_engine
from luthier.serve.request import Ask, EngineError, QueueFullError, Sampling

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

END = tiny_tokenizer().eos_token_id
OTHER_END = tiny_tokenizer().convert_tokens_to_ids("<|endoftext|>")
IDS = prompt(20)
TALK = [{"role": "user", "content": "the thing on a hen"}]


@contextlib.contextmanager
def running(folder: Path, **changes) -> Iterator[LlamaCppEngine]:
    engine = LlamaCppEngine(folder, spec(**({"rows": 2} | changes)))
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def folder(offline: Callable[[str], Offline], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf")
    build(Form(name="gguf"), offline("qwen2").base, out)
    return out


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LlamaCppEngine]:
    with running(folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def same(offline: Callable[[str], Offline]) -> Offline:
    return offline("qwen2")


def letters() -> dict[int, float]:
    """Return biases that leave single ASCII letters only."""
    vocabulary = tiny_tokenizer().get_vocab()
    return {number: -100.0 for token, number in vocabulary.items() if not (len(token) == 1 and token.isascii())}


def sampled(**changes) -> Sampling:
    return Sampling(**({"max_tokens": 24, "temperature": 1.0, "seed": 3, "logit_bias": letters()} | changes))


def test_an_answer_is_what_transformers_says(engine: LlamaCppEngine, same: Offline) -> None:
    heard = ask(engine, IDS, greedy(16)).wait()
    assert heard.tokens == same.greedy(IDS, 16)
    assert heard.text == tiny_tokenizer().decode(list(heard.tokens), skip_special_tokens=True)
    expected = same.logprobs(IDS, heard.tokens)
    for row, token in zip(expected, heard.spoken, strict=True):
        assert token.chosen.logprob == pytest.approx(float(row[token.chosen.id]), abs=1e-4)
    assert heard.finish == "length"
    assert sum(piece.new_tokens for piece in heard.pieces) == 16


def test_alternatives_are_the_likeliest_tokens(engine: LlamaCppEngine, same: Offline) -> None:
    heard = ask(engine, IDS, greedy(4, logprobs=5)).wait()
    for row, token in zip(same.logprobs(IDS, heard.tokens), heard.spoken, strict=True):
        best = row.topk(5)
        assert [one.id for one in token.alternatives] == best.indices.tolist()
        assert [one.logprob for one in token.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_chances_are_transformers(engine: LlamaCppEngine, same: Offline) -> None:
    said = same.greedy(IDS, 8)
    found = engine.chances(IDS, said)
    assert found.shape == (9, len(tiny_tokenizer()))
    assert np.abs(found - same.logprobs(IDS, [*said, 0]).numpy()).max() < 1e-4


def test_beyond_the_context_nothing_is_said(engine: LlamaCppEngine) -> None:
    whole = prompt(int(engine.context) - 1)
    found = engine.chances(whole, [5])
    assert not np.isnan(found[0]).any() and np.isnan(found[1]).all()


@pytest.mark.parametrize("ids", [IDS, prompt(300)])
def test_a_vector_is_the_mean_of_the_last_states(engine: LlamaCppEngine, same: Offline, ids: tuple[int, ...]) -> None:
    import torch

    with torch.no_grad():
        states = same.model().base_model(torch.tensor([ids])).last_hidden_state[0]
    expected = torch.nn.functional.normalize(states.mean(0), dim=0)
    assert engine.embed([ids])[0] == pytest.approx(expected.tolist(), abs=1e-4)


def test_an_answer_ends_at_the_stop_token_which_is_not_among_its_tokens(engine: LlamaCppEngine) -> None:
    for number in (END, OTHER_END):
        for logprobs in (0, None):
            heard = ask(engine, IDS, greedy(8, logit_bias={number: 100.0}, logprobs=logprobs)).wait()
            assert (heard.text, heard.tokens, heard.finish) == ("", (), "stop")


def test_stop_tokens_are_those_at_which_llama_cpp_ends(engine: LlamaCppEngine) -> None:
    # It knows the second one by its text, whatever the file says.
    assert engine.stop_ids == {END, OTHER_END}


def test_the_template_is_the_models(engine: LlamaCppEngine, same: Offline) -> None:
    template = Template(load_tokenizer(same.base))
    for messages in (TALK, [{"role": "system", "content": "Sing."}, *TALK]):
        expected = template.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert engine.render(messages) == expected
        assert engine.encode(expected) == template.tokenizer.encode(expected, add_special_tokens=False)


def test_calls_of_tools_are_templated_as_in_training(engine: LlamaCppEngine, same: Offline) -> None:
    template = Template(load_tokenizer(same.base))
    call = {"id": "c1", "type": "function", "function": {"name": "weigh", "arguments": '{"what": "hen"}'}}
    talk = (
        Message(role="user", content="weigh it"),
        Message(role="assistant", weight=0, tool_calls=(call,)),
        Message(role="tool", content="2 kg", tool_call_id="c1"),
        Message(role="assistant", content="2 kg"),
    )
    example = Example(messages=talk)
    assert engine.render(*template.worded(example)) == template.rendered(example)


def test_tools_stand_where_the_template_puts_them(engine: LlamaCppEngine, same: Offline) -> None:
    tool = {"type": "function", "function": {"name": "weigh", "description": "", "parameters": {"type": "object"}}}
    tokenizer = load_tokenizer(same.base)
    expected = tokenizer.apply_chat_template(TALK, tools=[tool], tokenize=False, add_generation_prompt=True)
    assert engine.render(TALK, [tool]) == expected


def test_the_same_seed_says_the_same_and_another_does_not(engine: LlamaCppEngine) -> None:
    first, again, other = (ask(engine, IDS, sampled(seed=seed)).wait().text for seed in (3, 3, 4))
    assert first == again != other


def test_a_streamed_answer_is_the_whole_one(engine: LlamaCppEngine) -> None:
    streamed, whole = ask(engine, IDS, sampled()).wait(), ask(engine, IDS, sampled(logprobs=0)).wait()
    assert streamed.text == whole.text and len(streamed.pieces) > 5
    assert sum(piece.new_tokens for piece in streamed.pieces) == 24


@pytest.mark.parametrize("logprobs", [None, 0])
def test_a_stop_text_ends_the_answer_and_is_not_in_it(engine: LlamaCppEngine, logprobs: int | None) -> None:
    whole = ask(engine, IDS, sampled()).wait().text
    stop = whole[10:13]
    heard = ask(engine, IDS, sampled(stop=(stop,), logprobs=logprobs)).wait()
    assert (heard.text, heard.finish) == (whole[: whole.index(stop)], "stop")


@pytest.mark.parametrize("logprobs", [None, 0])
def test_what_only_begins_a_stop_text_is_said_at_the_end(engine: LlamaCppEngine, logprobs: int | None) -> None:
    whole = ask(engine, IDS, sampled()).wait().text
    heard = ask(engine, IDS, sampled(stop=(whole[-2:] + "never",), logprobs=logprobs)).wait()
    assert (heard.text, heard.finish) == (whole, "length")


def test_answers_side_by_side_are_those_of_one_alone(engine: LlamaCppEngine, same: Offline) -> None:
    many = [prompt(10 + 3 * place, seed=place) for place in range(6)]
    for ids, heard in [(ids, ask(engine, ids, greedy(8))) for ids in many]:
        assert heard.wait().tokens == same.greedy(ids, 8)


def test_what_was_asked_before_changes_nothing(engine: LlamaCppEngine) -> None:
    first = ask(engine, IDS, greedy(8)).wait()
    ask(engine, (*IDS[:12], *prompt(5, seed=9)), greedy(3)).wait()
    again = ask(engine, IDS, greedy(8)).wait()
    assert [one.chosen for one in again.spoken] == [one.chosen for one in first.spoken]


def test_a_full_line_is_said(folder: Path) -> None:
    with running(folder, rows=1, queue=1) as engine:
        long = greedy(400, logit_bias={END: -100.0, OTHER_END: -100.0})
        heard = [ask(engine, IDS, long) for _ in range(2)]
        with pytest.raises(QueueFullError):
            ask(engine, IDS, long)
        for one in heard:
            one.wait()
        assert ask(engine, IDS, greedy(2)).wait().finish == "length"


@pytest.mark.parametrize("logprobs", [None, 0])
def test_a_cancelled_answer_ends_at_once(engine: LlamaCppEngine, logprobs: int | None) -> None:
    heard = Listener()
    endless = greedy(480, logit_bias={END: -100.0, OTHER_END: -100.0}, logprobs=logprobs)
    ticket = engine.submit(Ask(IDS, endless), heard)
    if logprobs is None:
        assert heard.began.wait(30)
    ticket.cancel()
    assert heard.wait().finish == "cancelled" and not heard.late
    check_idle(engine)
    assert ask(engine, IDS, greedy(2)).wait().finish == "length"


def test_grammars_and_adapters_are_refused(engine: LlamaCppEngine, same: Offline, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="grammar"):
        ask(engine, IDS, greedy(2, grammar="start: /a/"))
    adapter = save_adapter(same.base, tmp_path / "a")
    for asked in (
        lambda: ask(engine, IDS, greedy(2), adapter),
        lambda: engine.embed([IDS], adapter),
        lambda: engine.chances(IDS, [], adapter),
    ):
        with pytest.raises(EngineError, match="takes no adapter"):
            asked()


def test_closing_ends_the_child_and_tells_those_who_wait(folder: Path) -> None:
    engine = LlamaCppEngine(folder, spec(rows=1))
    child = psutil.Process(engine._child.pid)
    heard = [ask(engine, IDS, greedy(450, logit_bias={END: -100.0, OTHER_END: -100.0})) for _ in range(3)]
    engine.close()
    assert not child.is_running()
    assert any(isinstance(one.wait().error, EngineError) for one in heard)
    with pytest.raises(EngineError, match="closed"):
        engine.embed([IDS])


def test_a_killed_child_is_an_error_and_no_hang(folder: Path) -> None:
    with running(folder, rows=1) as engine:
        heard = ask(engine, IDS, greedy(450, logprobs=None, logit_bias={END: -100.0, OTHER_END: -100.0}))
        assert heard.began.wait(30)
        os.kill(engine._child.pid, signal.SIGKILL)
        heard.wait()
        assert isinstance(heard.error, EngineError)
        check_soon(lambda: not engine._child.is_alive)
        with pytest.raises(EngineError, match="llama.cpp has ended"):
            engine.chances(IDS, [])


def test_the_child_ends_with_a_killed_parent(folder: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from luthier.serve.engines.llama_child import Child, Orders\n"
        "child = Child(Orders(sys.argv[1], 1, 1, 10**9)); print(child.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(folder / "model.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    end = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.02)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_stranger_without_the_key_gets_nothing(engine: LlamaCppEngine) -> None:
    import httpx2

    started = engine._child.started
    assert started.host == "127.0.0.1"
    body = {"prompt": list(IDS), "n_predict": 1}
    assert httpx2.post(f"http://{started.host}:{started.port}/completion", json=body).status_code == 401


def test_a_broken_file_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"):
        if (folder / name).is_file():
            (tmp_path / name).write_bytes((folder / name).read_bytes())
    whole = (folder / "model.gguf").read_bytes()
    unknown = whole.replace(b"qwen2", b"qwenX")
    for data, what, why in (
        (b"no model", "cannot be read", ""),
        (whole[: len(whole) // 2], "cannot be read", ""),
        (unknown, "does not start with this file", "qwenX"),
    ):
        (tmp_path / "model.gguf").write_bytes(data)
        with pytest.raises(ModelError, match=what) as caught:
            open_engine("llama.cpp", tmp_path, spec())
        assert why in caught.value.why and "Traceback" not in str(caught.value)


def test_too_little_memory_is_said(folder: Path) -> None:
    with pytest.raises(ModelError, match="more memory than it may take"):
        LlamaCppEngine(folder, spec(answer_bytes=1))
