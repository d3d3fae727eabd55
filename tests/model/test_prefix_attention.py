"""A shared prefix in attention: where it is exact, and that the model's own attention comes back."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, MistralConfig, PreTrainedModel

from luthier.examples.store import Encoded
from luthier.model.prefix_attention import NAME, PLAIN_ATTENTION, attention_by, can_share, compute_prefix
from luthier.model.scoring import row_losses
from luthier.model.tiny import FAMILIES, SLIDING_WINDOW, tiny_model

KINDS = (*FAMILIES, "mistral")


def model_of(kind: str, *, window: int | None = None) -> PreTrainedModel:
    """A tiny model; Mistral is a Llama with a sliding window, and no family of its own here."""
    if kind != "mistral":
        return tiny_model(kind)
    like = tiny_model("llama").config.to_diff_dict()
    shape = {key: value for key, value in like.items() if key not in ("architectures", "model_type")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MistralConfig(**shape, sliding_window=window)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def test_every_kind_that_is_taken_for_plain_is_tested() -> None:
    assert {model_of(kind).config.model_type for kind in KINDS} == set(PLAIN_ATTENTION)


def test_a_window_of_mistrals_is_kept() -> None:
    model, ids = model_of("mistral", window=8), list(range(40))
    assert not can_share(model, 9)
    with torch.inference_mode():
        said = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = -float(sum(said[place - 1, ids[place]] for place in range(30, 40)))
    row = Encoded(ids, [place >= 30 for place in ids], 30)
    assert row_losses(model, [row])[0].total == pytest.approx(expected, rel=1e-5)


def test_a_window_shorter_than_the_whole_forbids_sharing() -> None:
    model = tiny_model("gemma3")
    assert can_share(model, SLIDING_WINDOW)
    assert not can_share(model, SLIDING_WINDOW + 1)
    assert can_share(tiny_model("llama"), 10**6)


def test_an_unknown_architecture_forbids_sharing() -> None:
    model = tiny_model("llama")
    model.config.model_type = "something_new"
    assert not can_share(model, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_whole_rows(kind: str) -> None:
    model = model_of(kind)
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
