"""Batched, prefix-shared answers are those of the plain one-by-one generation, for every family."""

import random

import pytest
import torch

from luthier.model.adapters.lora import LoraSpec
from luthier.model.generate import generate, stream
from luthier.model.prefixes import group_by_prefix
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, FAMILIES, tiny_model, tiny_tokenizer

NEW_TOKENS = 10


def lively_model(family: str) -> torch.nn.Module:
    """A tiny model whose answers are not one token repeated."""
    model = tiny_model(family)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


def ragged_prompts(seed: int = 0) -> list[list[int]]:
    """Two shared beginnings of several rows, a lone short prompt, a double, and one that almost fills the context."""
    draw = random.Random(seed)
    size = len(tiny_tokenizer()) - 3

    def ids(count: int) -> list[int]:
        return [draw.randrange(size) for _ in range(count)]

    one, two = ids(40), ids(70)
    prompts = [one + ids(draw.randrange(1, 30)) for _ in range(11)] + [
        two + ids(draw.randrange(1, 9)) for _ in range(9)
    ]
    draw.shuffle(prompts)
    return [*prompts, ids(3), prompts[4], one + ids(CONTEXT - 40 - 4)]


def plain_answers(model: torch.nn.Module, prompts: list[list[int]]) -> list[list[int]]:
    """What `model.generate` says to each prompt alone, with no token that ends the answer."""
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        room = min(NEW_TOKENS, CONTEXT - len(prompt))
        said = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=room,
            eos_token_id=None,
            pad_token_id=0,
        )
        answers.append(said[0, len(prompt) :].tolist())
    return answers


def cut(answer: list[int], stops: frozenset[int]) -> tuple[list[int], bool]:
    at = next((place for place, token in enumerate(answer) if token in stops), None)
    return (answer, False) if at is None else (answer[:at], True)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_plain_generation(family: str) -> None:
    model, template, prompts = lively_model(family), Template(tiny_tokenizer()), ragged_prompts()
    plain = plain_answers(model, prompts)
    template.stop_ids = frozenset({plain[0][0], plain[1][4], plain[2][2]})
    expected = [cut(answer, template.stop_ids) for answer in plain]
    assert len({token for answer in plain for token in answer}) > 10
    assert {stopped for _, stopped in expected} == {True, False}

    for batch_tokens in (4096, 90):
        answers = generate(model, template, prompts, max_new_tokens=NEW_TOKENS, batch_tokens=batch_tokens)
        assert [(answer.ids, answer.stopped) for answer in answers] == expected
    assert model.config._attn_implementation == "sdpa"


def test_prompts_share_what_they_can() -> None:
    assert sorted(group.shared for group in group_by_prefix(ragged_prompts())) == [0, 40, 70]


def test_an_adapter_answers_as_its_plain_generation() -> None:
    adapter = LoraSpec(r=4).build()
    model = adapter.attach(lively_model("llama"), seed=1).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    prompts = ragged_prompts()[:12]
    answers = generate(model, Template(tiny_tokenizer()), prompts, max_new_tokens=NEW_TOKENS)
    expected = [cut(answer, frozenset({tiny_tokenizer().eos_token_id}))[0] for answer in plain_answers(model, prompts)]
    assert [answer.ids for answer in answers] == expected


def test_text_and_progress() -> None:
    template, heard = Template(tiny_tokenizer()), []
    prompts = ragged_prompts()[:8]
    answers = generate(
        lively_model("qwen2"), template, prompts, max_new_tokens=3, batch_tokens=120, progress=heard.append
    )
    assert sum(heard) == 8 and len(heard) > 2
    assert all(answer.text == template.text(answer.ids) for answer in answers)


def test_a_prompt_that_fills_the_context_gets_an_empty_answer() -> None:
    prompts, heard = [[5] * CONTEXT, [7] * 4, [6] * (CONTEXT + 9)], []
    answers = generate(
        lively_model("gpt2"), Template(tiny_tokenizer()), prompts, max_new_tokens=3, progress=heard.append
    )
    assert [len(answer.ids) for answer in answers] == [0, 3, 0]
    assert not answers[0].stopped and sum(heard) == 3


def test_no_prompts_no_answers() -> None:
    assert generate(tiny_model("llama"), Template(tiny_tokenizer()), [], max_new_tokens=3) == []


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        generate(tiny_model("llama"), Template(tiny_tokenizer()), [[1], []], max_new_tokens=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_says_what_generate_says(family: str) -> None:
    model, template, prompt = lively_model(family), Template(tiny_tokenizer()), ragged_prompts()[0]
    text = generate(model, template, [prompt], max_new_tokens=20)[0].text
    assert "".join(stream(model, template, prompt, max_new_tokens=20)) == text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_ends_at_a_stop_token_which_is_not_shown(family: str) -> None:
    model, template, prompt = lively_model(family), Template(tiny_tokenizer()), ragged_prompts()[0]
    ids = generate(model, template, [prompt], max_new_tokens=12)[0].ids
    template.stop_ids = frozenset({ids[-1]})
    said = ids[: ids.index(ids[-1])]
    assert "".join(stream(model, template, prompt, max_new_tokens=12)) == template.text(said)


def test_a_full_context_streams_nothing() -> None:
    full = [5] * CONTEXT
    assert list(stream(tiny_model("gpt2"), Template(tiny_tokenizer()), full, max_new_tokens=3)) == []


def test_streamed_pieces_are_whole_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    template = Template(tiny_tokenizer())
    ids = template.tokenizer.encode("naïve — 日本 🎻", add_special_tokens=False)
    monkeypatch.setattr("luthier.model.generate._tokens", lambda work: iter(ids))
    pieces = list(stream(tiny_model("llama"), template, [1], max_new_tokens=99))
    assert "".join(pieces) == "naïve — 日本 🎻"
    assert not any("\ufffd" in piece for piece in pieces)
