"""A quickened model says what it said before, on the same weights."""

import pytest
import torch

from luthier.model.fast import gemm
from luthier.model.quick import QuickLinear, quicken
from luthier.model.tiny import FAMILIES, tiny_model


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_stay(family: str, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "_onednn_is_faster", lambda threads: onednn)
    ids = torch.randint(0, 200, (3, 17), generator=torch.Generator().manual_seed(0))
    model = tiny_model(family)
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        after = quicken(model)(input_ids=ids).logits
    assert torch.allclose(before, after, atol=1e-5)
    assert sum(isinstance(module, QuickLinear) for module in model.modules()) > 8


def test_weights_are_shared_not_copied() -> None:
    model = tiny_model("llama")
    before = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    quicken(model)
    assert {name: weight.data_ptr() for name, weight in model.named_parameters()} == before
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
