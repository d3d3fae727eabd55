"""The arithmetic on how many weights train is near what really does."""

import pytest
import torch
from tests.model.adapters import CASES

from luthier.advise.estimate.trained import trained_weights
from luthier.model.adapter import is_linear, parameters
from luthier.model.tiny import tiny_model

EXACT = ("lora", "qlora", "ln_tuning", "prompt_tuning", "prefix_tuning", "prefix_tuning-projection", "full")

ELSEWHERE = ("prompt_tuning-text", "p_tuning-lstm", "lora-whole-parts")
"""Where it needs a tokenizer, or where options make another number of weights, which is only guessed."""


@pytest.mark.parametrize("case", [name for name in CASES if name not in ELSEWHERE])
def test_it_is_near_what_trains(case: str) -> None:
    base, spec = tiny_model("llama"), CASES[case]
    head = base.get_output_embeddings()
    linear = [tuple(part.weight.shape) for part in base.modules() if is_linear(part) and part is not head]
    guess = trained_weights(spec, linear, hidden=32, keys=16, layers=2, parameters=parameters(base))
    model: torch.nn.Module = spec.build().attach(base, seed=1)
    really = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    if case in EXACT:
        assert guess == really
    assert really / 5 <= guess <= really * 5
