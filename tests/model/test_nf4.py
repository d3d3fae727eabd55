"""Linear layers in 4 bits: what rounding costs, that it is made again exactly, and that gradients are right."""

import pytest
import torch

from luthier.model.adapting.nf4 import TABLE, Nf4Linear, pack, rounded, unpack


def weight(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def test_values_of_the_table_come_back_exactly() -> None:
    values = torch.tensor(TABLE) * 0.5
    assert torch.equal(rounded(values, block_size=16, double=False), values)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(48, 64), (7, 19)])
def test_each_value_becomes_the_nearest(shape: tuple[int, int], double: bool) -> None:
    given = weight(*shape)
    found = rounded(given, block_size=64, double=double)
    flat = torch.nn.functional.pad(given.flatten(), (0, -given.numel() % 64)).view(-1, 64)
    largest = flat.abs().amax(dim=1, keepdim=True)
    choices = (largest[..., None] * torch.tensor(TABLE)).expand(-1, 64, -1)
    nearest = choices.gather(-1, (flat[..., None] - choices).abs().argmin(-1, keepdim=True)).flatten()
    nearest = nearest[: given.numel()].view(shape)
    if double:
        # The scales themselves have 8 bits.
        assert (found - given).abs().mean() < 1.1 * (nearest - given).abs().mean()
    else:
        assert torch.allclose(found, nearest)
        assert torch.equal(rounded(found, block_size=64, double=False), found)


def test_blocks_of_zeros_stay_zeros() -> None:
    for double in (False, True):
        assert torch.equal(rounded(torch.zeros(4, 64), block_size=64, double=double), torch.zeros(4, 64))


def test_it_takes_an_eighth_of_the_memory() -> None:
    given = weight(256, 512)
    packed = [pack(given, block_size=64, double=double) for double in (False, True)]
    sizes = [one.codes.nbytes + one.scales.nbytes + one.outer.nbytes for one in packed]
    assert sizes[0] == given.numel() // 2 + given.numel() // 64 * 4
    assert sizes[1] < given.numel() * (4 + 0.2) / 8
    assert unpack(packed[0], given.shape, block_size=64, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [False, True])
def test_its_gradients_are_those_of_the_layer_it_stands_for(bias: bool) -> None:
    layer = torch.nn.Linear(64, 48, bias=bias)
    packed = Nf4Linear(layer, block_size=64, double=True)
    plain = torch.nn.Linear(64, 48, bias=bias)
    with torch.no_grad():
        plain.weight.copy_(packed.weight)
    if bias:
        plain.bias = layer.bias
    x = weight(3, 5, 64, seed=1)
    found = []
    for one in (packed, plain):
        layer.zero_grad()
        inputs = x.clone().requires_grad_()
        y = one(inputs)
        (y.sin() * 2).sum().backward()
        found.append((y.detach(), inputs.grad, layer.bias.grad.clone() if bias else torch.zeros(())))
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(*found, strict=True))
    assert not list(packed.buffers())[0].requires_grad and dict(packed.named_parameters()).keys() <= {"bias"}


def test_nothing_whole_is_kept_for_the_backward_pass() -> None:
    packed, kept = Nf4Linear(torch.nn.Linear(256, 256), block_size=64, double=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        packed(weight(4, 256).requires_grad_())
    assert sum(tensor.numel() for tensor in kept) < 256 * 256


def test_it_computes_in_the_arithmetic_that_is_asked_for() -> None:
    packed = Nf4Linear(torch.nn.Linear(64, 8), block_size=64, double=False)
    with torch.autocast("cpu", torch.bfloat16):
        y = packed(weight(2, 64).requires_grad_())
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert packed(weight(2, 64)).dtype == torch.float32
