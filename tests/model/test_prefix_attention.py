"""A shared prefix in attention: where it is exact, and that the model's own attention comes back."""

import pytest
import torch
from transformers import DynamicCache

from luthier.model.prefix_attention import NAME, attention_by, can_share, compute_prefix
from luthier.model.tiny import FAMILIES, SLIDING_WINDOW, tiny_model


def test_a_window_shorter_than_the_whole_forbids_sharing() -> None:
    model = tiny_model("gemma3")
    assert can_share(model, SLIDING_WINDOW)
    assert not can_share(model, SLIDING_WINDOW + 1)
    assert can_share(tiny_model("llama"), 10**6)


def test_an_unknown_architecture_forbids_sharing() -> None:
    model = tiny_model("llama")
    model.config.model_type = "something_new"
    assert not can_share(model, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_whole_rows(family: str) -> None:
    model = tiny_model(family)
    prefix, rests = [5, 9, 3, 77, 12, 8], torch.tensor([[1, 2, 3, 4], [9, 8, 7, 6], [50, 60, 70, 80]])
    whole = torch.cat([torch.tensor([prefix] * 3), rests], dim=1)
    with torch.inference_mode():
        expected = model(input_ids=whole).logits[:, len(prefix) :]
        shared = compute_prefix(model, prefix)
        with attention_by(model, NAME):
            places = torch.arange(len(prefix), whole.shape[1])[None].expand(3, -1)
            cache = DynamicCache(config=model.config)
            got = model(input_ids=rests, position_ids=places, past_key_values=cache, shared_prefix=shared).logits
    assert torch.allclose(got, expected, atol=1e-5)
    assert shared.layers[0].keys.shape[0] == 1


def test_the_own_attention_returns_after_an_error() -> None:
    model = tiny_model("llama")
    with pytest.raises(KeyError), attention_by(model, NAME):
        raise KeyError
    assert model.config._attn_implementation == "sdpa"
