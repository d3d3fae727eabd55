"""Encoder-decoders: rows of two sides, and answers that are transformers' own greedy ones however they are batched."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from luthier.core.errors import DataError
from luthier.examples.example import Example, Message, Segment
from luthier.model.adapters.full import FullSpec
from luthier.model.bitext import Bitext, joined, longer_side
from luthier.model.checks import context_length, kind_of
from luthier.model.load import load_model, load_tokenizer
from luthier.model.scoring import row_losses
from luthier.model.seq2seq import target_logits, target_losses, write
from luthier.model.tiny import CONTEXT, ENCODER_DECODERS, save_tiny_seq2seq, tiny_tokenizer, tiny_two_sides


def turns(*contents: str) -> Example:
    roles = ("user", "assistant") * len(contents)
    return Example(messages=tuple(Message(role=r, content=c) for r, c in zip(roles, contents, strict=False)))


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_a_row_has_two_sides_and_its_target_ends(family: str) -> None:
    bitext = Bitext(tiny_two_sides(family))
    row = bitext.encode(turns("translate: the sea", "la mer"))
    source, target = row.ids[: row.prompt_tokens], row.ids[row.prompt_tokens :]
    assert bitext.text(source) == "translate: the sea" and bitext.text(target) == "la mer"
    assert source[-1] == target[-1] == bitext.eos_id and bitext.eos_id not in target[:-1]
    assert (source[0] == target[0] == 2) is (family == "bart"), "BART's texts begin with <s>"
    assert row.targets == [False] * len(source) + [True] * len(target)
    assert bitext.prompt_ids(turns("translate: the sea", "la mer")) == source

    cut = bitext.cut(row, 5)
    assert longer_side(cut) == 5 and cut.prompt_tokens == 5
    assert cut.ids[4] == cut.ids[-1] == bitext.eos_id, "what ends a text stays"
    assert cut.ids[:4] == source[:4]


def test_a_target_ends_also_where_the_tokenizer_does_not_say_so() -> None:
    bitext = Bitext(tiny_tokenizer())
    row = bitext.encode(turns("a", "b"))
    assert row.ids[-1] == bitext.eos_id and row.ids[: row.prompt_tokens].count(bitext.eos_id) == 0


def test_what_is_no_source_with_a_target() -> None:
    bitext = Bitext(tiny_two_sides("t5"))
    ruled = Example(messages=(Message(role="system", content="be brief"), *turns("a", "b").messages))
    assert bitext.text(bitext.prompt_ids(ruled)) == "be brief\na"
    raw = Example(segments=(Segment(text="say: a\n", target=False), Segment(text=" b", target=True)))
    row = bitext.encode(raw)
    assert (bitext.text(row.ids[: row.prompt_tokens]), bitext.text(row.ids[row.prompt_tokens :])) == ("say: a", "b")
    with pytest.raises(DataError, match="several turns"):
        bitext.encode(turns("a", "b", "c", "d"))
    with pytest.raises(DataError, match="no source"):
        bitext.encode(Example(segments=(Segment(text="b", target=True),)))
    with pytest.raises(DataError, match="half of a character"):
        bitext.encode(turns("\ud800", "b"))


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_answers_are_transformers_greedy_ones(tmp_path: Path, family: str) -> None:
    folder = save_tiny_seq2seq(tmp_path, family, seed=3)
    assert kind_of(folder) == "encoder-decoder" and context_length(folder) >= CONTEXT
    settings = json.loads((folder / "generation_config.json").read_text())
    # As published summarisers have it: beams, and lengths that greedy answers must not inherit.
    settings |= {"num_beams": 4, "min_length": 9, "no_repeat_ngram_size": 2, "max_length": 3}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model, bitext = load_model(folder), Bitext(load_tokenizer(folder))
    sources = [bitext.source_ids(text) for text in ("the", "in the rain and on the road", "a b", "stone")]
    said = write(model, bitext, sources, max_new_tokens=12)
    assert model.generation_config.num_beams == 4, "the model's own settings are as they were"
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    starts = (
        {"decoder_start_token_id": 1, "forced_bos_token_id": 2} if family == "bart" else {"decoder_start_token_id": 0}
    )
    plain.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0, **starts)
    for source, answer in zip(sources, said, strict=True):
        theirs = plain.generate(torch.tensor([source]), max_new_tokens=12, do_sample=False)[0, 1:].tolist()
        assert answer.ids == theirs[: len(answer.ids)] and len(answer.ids) >= len(theirs) - 1
        assert answer.stopped is (bitext.eos_id in theirs)
    # Each token is the likeliest one after those before it, as the training's own logits have it.
    row = joined(sources[1], said[1].ids)
    first = 1 if family == "bart" else 0
    assert target_logits(model, [row])[0].argmax(-1).tolist()[first:] == said[1].ids[first:]


def test_losses_are_those_of_each_row_alone(tmp_path: Path) -> None:
    model = load_model(save_tiny_seq2seq(tmp_path, "bart"))
    rows = [joined([2, 9 + i, 1], [2, *range(20, 24 + 3 * i), 1]) for i in range(4)]
    together = target_losses(model, rows)
    assert together == pytest.approx([target_losses(model, [row])[0] for row in rows], abs=1e-4)
    priced = row_losses(model, rows)
    assert [loss.tokens for loss in priced] == [len(row.ids) - 3 for row in rows]
    assert [loss.total for loss in priced] == pytest.approx(together)


def test_models_with_two_embeddings_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    """T5 v1.1 (Flan) has an output layer of its own, and no scale before it; both must outlive another saving."""
    parts = {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=64, d_model=16, **parts, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model = T5ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "one")
    row = joined([5, 6, 1], [7, 8, 1])
    first = target_logits(load_model(tmp_path / "one"), [row])[0]
    load_model(tmp_path / "one").save_pretrained(tmp_path / "two")
    again = target_logits(load_model(tmp_path / "two"), [row])[0]
    assert torch.allclose(torch.from_numpy(first), torch.from_numpy(again))
    assert torch.allclose(torch.from_numpy(first), torch.from_numpy(target_logits(model, [row])[0]))


def test_sines_of_positions_are_not_trained() -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0, "eos_token_id": 1}
    model = MarianMTModel(MarianConfig(vocab_size=32, max_position_embeddings=32, **sizes, **heads))
    still = [
        name for name, weight in FullSpec().build().attach(model, seed=0).named_parameters() if not weight.requires_grad
    ]
    assert still == ["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"]
