"""Tiny models are real ones: each family builds, answers, saves and loads the same."""

from pathlib import Path

import pytest
import torch

from luthier.model.load import load_model, load_tokenizer
from luthier.model.tiny import FAMILIES, SLIDING_WINDOW, save_tiny, tiny_model, tiny_tokenizer

TEXT = "the thing 12 žluť 🐎 <|im_end|>\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_says_the_same_once_loaded(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    folder = save_tiny(tmp_path / family, family)
    ids = torch.arange(2 * 40).reshape(2, 40)
    with torch.no_grad():
        before, after = model(ids).logits, load_model(folder)(ids).logits
    assert before.shape == (2, 40, len(tiny_tokenizer()))
    assert torch.equal(before, after.cpu())
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode(TEXT) == tiny_tokenizer().encode(TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.chat_template == tiny_tokenizer().chat_template


def test_models_depend_on_the_seed_and_leave_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, same, other = (tiny_model("llama", seed=seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_models_are_small_fp32_grouped_and_without_dropout() -> None:
    for family in FAMILIES:
        model = tiny_model(family)
        assert sum(p.numel() for p in model.parameters()) < 60_000
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert not [m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]
        assert family == "gpt2" or model.config.num_key_value_heads < model.config.num_attention_heads


def test_gemma_has_a_window_that_rows_outgrow() -> None:
    config = tiny_model("gemma3").config
    assert config.sliding_window == SLIDING_WINDOW
    assert set(config.layer_types) == {"sliding_attention", "full_attention"}


def test_every_byte_has_a_token_and_the_specials_are_one_each() -> None:
    tokenizer = tiny_tokenizer()
    text = bytes(range(32, 127)).decode() + "".join(map(chr, range(160, 900)))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert [len(tokenizer.encode(special)) for special in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")] == [1, 1, 1]
