"""A product with a weight laid out once is the plain product, for any number of rows."""

import pytest
import torch

from luthier.serve import packed
from luthier.serve.packed import product_with

CLOSE = 1e-5
"""Relative to the largest number, in fp32."""


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 200])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (32, 32), (33, 7), (64, 275), (576, 192)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_products_are_plain_ones(rows: int, inputs: int, outputs: int, has_bias: bool, transposed: bool) -> None:
    draw = torch.Generator().manual_seed(rows + inputs)
    shape = (inputs, outputs) if transposed else (outputs, inputs)
    weight, bias = torch.randn(shape, generator=draw), torch.randn(outputs, generator=draw)
    weight_MK = weight.t() if transposed else weight
    product = product_with(weight_MK, bias if has_bias else None)
    for _ in range(2):
        x = torch.randn(rows, inputs, generator=draw)
        expected = x.double() @ weight_MK.t().double() + (bias.double() if has_bias else 0)
        found = product(x)
        assert found.shape == (rows, outputs) and found.dtype == torch.float32
        assert float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max()) * inputs**0.5


def test_without_the_layout_the_product_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(9)
    weight, bias, x = (torch.randn(shape, generator=draw) for shape in ((24, 16), (24,), (5, 16)))
    with_it = product_with(weight, bias)(x)
    monkeypatch.setattr(packed, "_can_pack", lambda: False)
    assert torch.allclose(product_with(weight, bias)(x), with_it, atol=1e-5)
