"""The engine says, for each row of any batch, what plain transformers and PEFT say for that row alone."""

import json
import random
import shutil

import jsonschema_rs
import pytest
import torch
from tests.serve.made import (
    CLOSE,
    MAKERS,
    SHORT_ROPE,
    Listener,
    Offline,
    ask,
    check_as_offline,
    check_idle,
    greedy,
    prompt,
    running,
    save_adapter,
    spec,
)
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from luthier.core.errors import ModelError
from luthier.examples.example import Message
from luthier.model.load import load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, save_tiny, tiny_tokenizer
from luthier.serve.constrain import GrammarError, json_schema
from luthier.serve.engines.transformers import TransformersEngine
from luthier.serve.request import Ask, Sampling

OTHER = {"vocab_size": len(tiny_tokenizer()), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LENGTHS = (1, 5, 15, 16, 17, 40, 90)
"""Shorter than the sliding window, around it, and longer."""


@pytest.fixture(scope="module", params=MAKERS)
def served(request, offline):
    known = offline(request.param)
    with running(known.base, spec(rows=4)) as engine:
        yield engine, known


def test_each_row_of_a_batch_is_as_alone_offline(served) -> None:
    engine, known = served
    heard = [(ask(engine, prompt(length)), prompt(length)) for length in LENGTHS]
    for listener, ids in heard:
        check_as_offline(listener, known, ids)
    check_idle(engine)


def test_rows_join_and_leave_in_any_order(served) -> None:
    engine, known = served
    draw = random.Random(3)
    heard: list[tuple[Listener, tuple[int, ...], int]] = []
    for number in range(12):
        ids, tokens = prompt(draw.choice(LENGTHS), seed=number), draw.randrange(1, 40)
        heard.append((ask(engine, ids, greedy(tokens)), ids, tokens))
        if draw.random() < 0.5:
            draw.choice(heard)[0].began.wait(10)
    for listener, ids, tokens in heard:
        check_as_offline(listener, known, ids, tokens=tokens)


def test_adapters_and_the_base_share_a_batch(served, tmp_path) -> None:
    engine, known = served
    adapters = [
        None,
        save_adapter(known.base, tmp_path / "a", seed=1),
        save_adapter(known.base, tmp_path / "b", seed=2, r=8, use_rslora=True),
        save_adapter(known.base, tmp_path / "c", seed=3, r=1, scale=1.0, target_modules=r".*\.1\..*(_proj|c_\w+)"),
    ]
    asked = [(prompt(length), adapter) for length in (7, 33) for adapter in adapters]
    heard = [ask(engine, ids, adapter=adapter) for ids, adapter in asked]
    for listener, (ids, adapter) in zip(heard, asked, strict=True):
        check_as_offline(listener, known, ids, adapter)
    told_apart = {tuple(round(token.chosen.logprob, 3) for token in listener.spoken) for listener in heard}
    assert len(told_apart) == len(heard)


def test_prompts_in_pieces_and_repeated_beginnings_change_nothing(served, tmp_path) -> None:
    _, known = served
    adapter, beginning = save_adapter(known.base, tmp_path / "a", seed=4), prompt(50)
    asked = [(beginning + prompt(end, seed=7), whose) for whose in (None, adapter) for end in (3, 30, 3)]
    with running(known.base, spec(prefill_tokens=16)) as engine:
        for ids, whose in asked:
            check_as_offline(ask(engine, ids, adapter=whose), known, ids, whose)
        assert engine.stats().cached_prompt_tokens == 2 * (48 + 48)
    with running(known.base, spec(prefix_bytes=0)) as engine:
        for ids, whose in asked:
            check_as_offline(ask(engine, ids, adapter=whose), known, ids, whose)
        assert engine.stats().cached_prompt_tokens == 0


@pytest.fixture(scope="module")
def llama(offline):
    return offline("llama")


@pytest.fixture(scope="module")
def engine(llama):
    with running(llama.base, spec(rows=8)) as made:
        yield made


def test_cached_tokens_are_told_once_and_never_another_adapter_s(engine, llama, tmp_path) -> None:
    ids, adapter = prompt(70, seed=21), save_adapter(llama.base, tmp_path / "a", seed=21)
    told = []
    for whose in (None, None, adapter, adapter, None):
        heard = ask(engine, ids, adapter=whose).wait()
        told.append([piece.cached_tokens for piece in heard.pieces if piece.cached_tokens])
    assert told == [[], [64], [], [64], [64]]


def test_a_folder_with_new_weights_is_read_anew_after_unloading(engine, llama, tmp_path) -> None:
    ids, folder, other = prompt(40, seed=22), tmp_path / "a", tmp_path / "b"
    for seed, known in ((1, Offline(llama.base)), (2, Offline(llama.base))):
        save_adapter(llama.base, folder, seed=seed)
        check_as_offline(ask(engine, ids, adapter=folder), known, ids, folder)
        engine.unload(folder)
        save_adapter(llama.base, other, seed=9)
        ask(engine, ids, adapter=other).wait()


def test_all_tokens_are_counted(engine, llama) -> None:
    before = engine.stats()
    heard = [ask(engine, prompt(length, seed=23), greedy(9)).wait() for length in (5, 20)]
    check_idle(engine)
    after = engine.stats()
    said = [sum(piece.new_tokens for piece in listener.pieces) for listener in heard]
    assert said == [len(listener.tokens) + (listener.finish == "stop") for listener in heard]
    assert after.answer_tokens - before.answer_tokens == sum(said)
    assert after.prompt_tokens - before.prompt_tokens == 25


def test_an_answer_ends_at_its_limit_or_the_context_s(engine, llama) -> None:
    # A token that ends answers is banned, so that these are long.
    endless = {"logit_bias": dict.fromkeys(engine.stop_ids, -1e4)}
    short = ask(engine, prompt(10), greedy(7, **endless)).wait()
    assert (short.finish, len(short.tokens)) == ("length", 7)
    full = ask(engine, prompt(CONTEXT - 5), greedy(100, **endless)).wait()
    assert (full.finish, len(full.tokens)) == ("length", 5)
    for ids in ((), prompt(CONTEXT)):
        with pytest.raises(ValueError, match="context"):
            engine.submit(Ask(ids, greedy()), Listener())


def test_an_end_token_ends_the_answer_and_is_not_said(engine, llama) -> None:
    end = min(engine.stop_ids)
    heard = ask(engine, prompt(10), greedy(50, logit_bias={end: 1e4})).wait()
    assert (heard.finish, heard.text, heard.tokens) == ("stop", "", ())
    assert sum(piece.new_tokens for piece in heard.pieces) == 1


def test_a_stop_text_ends_the_answer(engine, llama) -> None:
    ids = prompt(33, seed=24)
    whole = ask(engine, ids, greedy(60)).wait().text
    assert len(whole) > 12
    stop = whole[8:11]
    heard = ask(engine, ids, greedy(60, stop=(stop, "nowhere"))).wait()
    assert (heard.text, heard.finish) == (whole.split(stop)[0], "stop")
    # Its tokens are told up to the one that completed the stop text.
    assert heard.tokens == ask(engine, ids, greedy(60)).wait().tokens[: len(heard.tokens)]


def test_log_probabilities_are_the_model_s_own(engine, llama, tmp_path) -> None:
    adapter, ids = save_adapter(llama.base, tmp_path / "a", seed=25), prompt(20, seed=25)
    asked = Sampling(40, temperature=1.5, top_p=0.9, seed=3, logprobs=5, presence_penalty=0.5, logit_bias={7: 2.0})
    heard = ask(engine, ids, asked, adapter).wait()
    expected = llama.logprobs(ids, heard.tokens, adapter)
    assert len(heard.tokens) > 10
    for row, token in zip(expected, heard.spoken, strict=True):
        values, tokens = row.topk(5)
        assert [other.id for other in token.alternatives] == tokens.tolist()
        assert [other.logprob for other in token.alternatives] == pytest.approx(values.tolist(), abs=CLOSE)
        assert token.chosen.logprob == pytest.approx(float(row[token.chosen.id]), abs=CLOSE)


def test_bytes_of_tokens_join_to_the_text_of_characters_in_pieces(engine, llama) -> None:
    # A model that must say one text: each token of it is forced by a grammar.
    text = "é 東京 😀 the thing"
    heard = ask(engine, prompt(5), greedy(100, grammar=json_schema({"const": text}))).wait()
    assert json.loads(heard.text) == text
    assert b"".join(token.chosen.utf8 for token in heard.spoken).decode() == heard.text
    assert any(token.chosen.text == "\ufffd" for token in heard.spoken)
    assert all("\ufffd" not in piece.text for piece in heard.pieces)


def test_a_seed_says_the_same_alone_and_in_a_full_batch(engine, llama, tmp_path) -> None:
    adapter = save_adapter(llama.base, tmp_path / "a", seed=26)
    asked = [
        (prompt(5 + number, seed=26), Sampling(30, seed=number, logprobs=0), [None, adapter][number % 2])
        for number in range(8)
    ]
    alone = [ask(engine, *one).wait().tokens for one in asked]
    together = [ask(engine, *one) for one in asked]
    assert [listener.wait().tokens for listener in together] == alone
    assert len(set(alone)) == len(alone)


def test_plain_answers_are_the_same_without_log_probabilities(engine, llama) -> None:
    for number in range(4):
        ids = prompt(12, seed=30 + number)
        heard = ask(engine, ids, greedy(30, logprobs=None)).wait()
        assert heard.spoken == []
        assert heard.text == ask(engine, ids, greedy(30)).wait().text


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "t": {"type": "string", "maxLength": 5}},
    "required": ["n", "t"],
    "additionalProperties": False,
}


def test_answers_of_a_random_model_are_valid_and_end_by_themselves(engine, llama) -> None:
    grammar, validator = json_schema(SCHEMA), jsonschema_rs.validator_for(SCHEMA)
    free = ask(engine, prompt(9), greedy(30))
    heard = [ask(engine, prompt(9), Sampling(300, seed=seed, grammar=grammar)) for seed in range(6)]
    heard.append(ask(engine, prompt(9), greedy(300, grammar=grammar)))
    for listener in heard:
        validator.validate(json.loads(listener.wait().text))
        assert listener.finish == "stop"
    check_as_offline(free, llama, prompt(9), tokens=30)
    assert len({listener.text for listener in heard}) > 3


def test_any_token_that_ends_answers_ends_a_complete_one(llama, tmp_path) -> None:
    folder = shutil.copytree(llama.base, tmp_path / "two-ends")
    other = tiny_tokenizer().convert_tokens_to_ids("<|endoftext|>")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [other]}))
    with running(folder, spec()) as engine:
        assert engine.stop_ids == {other, tiny_tokenizer().eos_token_id}
        grammar = json_schema({"type": "integer", "minimum": 100})
        heard = ask(engine, prompt(6), greedy(100, grammar=grammar, logit_bias={other: 1e4})).wait()
    assert heard.finish == "stop" and len(heard.text) == 3 and int(heard.text) >= 100


def test_a_grammar_that_cannot_be_is_said_to_who_asked(engine, llama) -> None:
    others = [ask(engine, prompt(9, seed=seed), greedy(30)) for seed in range(3)]
    refused = ask(engine, prompt(9), greedy(30, grammar="no grammar"))
    after = ask(engine, prompt(9, seed=9), greedy(30))
    assert isinstance(refused.wait().error, GrammarError)
    for seed, listener in [*enumerate(others), (9, after)]:
        check_as_offline(listener, llama, prompt(9, seed=seed), tokens=30)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_embeddings_are_the_mean_of_the_last_states(offline, tmp_path, family) -> None:
    known = offline(family)
    adapter = save_adapter(known.base, tmp_path / "a", seed=27)
    prompts = [prompt(length) for length in (1, 20, 45)]
    with running(known.base, spec()) as engine:
        for whose in (None, adapter):
            model = known.model(whose)
            model = (model.get_base_model() if whose else model).base_model
            for ids, vector in zip(prompts, engine.embed(prompts, whose), strict=True):
                with torch.no_grad():
                    mean = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
                assert vector == pytest.approx((mean / mean.norm()).tolist(), abs=CLOSE)
        with pytest.raises(ModelError):
            engine.embed(prompts, tmp_path / "nowhere")
        assert engine.stats().adapters == 1
        engine.unload(adapter)


def test_a_context_ends_where_positions_would_change_for_the_whole_batch(offline) -> None:
    known, ids = offline("phi3-long"), prompt(20)
    with running(known.base, spec()) as engine:
        assert engine.context == SHORT_ROPE
        bans = dict.fromkeys(engine.stop_ids, -1e4)
        heard = [ask(engine, prompt(length), greedy(CONTEXT, logit_bias=bans)) for length in (20, 50)]
        for listener in heard:
            assert listener.wait().finish == "length"
        check_as_offline(ask(engine, ids, greedy(30)), known, ids, tokens=30)
        with pytest.raises(ValueError, match="context"):
            ask(engine, prompt(SHORT_ROPE))
    assert [len(listener.tokens) for listener in heard] == [44, 14]


def test_another_kind_of_model_is_refused(tmp_path) -> None:
    folder = save_tiny(tmp_path / "neox", "llama")
    config = GPTNeoXConfig(**OTHER, eos_token_id=tiny_tokenizer().eos_token_id)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(ModelError, match="not served yet"):
        TransformersEngine(folder, spec())


@pytest.mark.parametrize("is_adapted", [False, True])
def test_chances_along_an_answer_are_those_of_one_pass(served, is_adapted, tmp_path) -> None:
    engine, known = served
    adapter = save_adapter(known.base, tmp_path / "adapter") if is_adapted else None
    ids, answer = prompt(40), prompt(5, seed=1)
    said = torch.from_numpy(engine.chances(ids, answer, adapter))
    # A token more, for the chances after the whole answer.
    expected = known.logprobs(ids, (*answer, 0), adapter)
    assert said.shape == expected.shape
    assert torch.allclose(said, expected, atol=CLOSE)


def test_the_engine_renders_and_encodes_as_training_does(served) -> None:
    engine, known = served
    messages = [{"role": "user", "content": "is it warm?"}]
    rendered = engine.render(messages)
    assert engine.encode(rendered) == Template(load_tokenizer(known.base)).messages_ids([Message(**messages[0])])
