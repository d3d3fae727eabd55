"""4-bit NormalFloat: linear layers whose weights are numbers of a table (Dettmers et al. 2023, arXiv:2305.14314).

Plain torch, on any device: bitsandbytes 0.50.2 repacks its weights at an evaluation on a CPU, and no gradient passes
them from then on.
"""

from dataclasses import dataclass

import torch

# The paper's table: the quantiles of a normal distribution, scaled to [-1, 1], with an exact zero (appendix E).
TABLE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
SCALES = 256
"""Scales that share a scale of their own."""
STEPS = 127
"""Steps of an 8-bit scale on either side of their mean."""


@dataclass(frozen=True)
class Packed:
    """A tensor in 4 bits a value, two in a byte, and the scales of its blocks."""

    codes: torch.Tensor
    """uint8, (values / 2,)."""
    scales: torch.Tensor
    """fp32 (blocks,), or int8 where they are kept in 8 bits."""
    outer: torch.Tensor
    """fp32: the scales' own scales and, last, their mean; empty where they are fp32."""


def pack(weight: torch.Tensor, *, block_size: int, double: bool) -> Packed:
    """Round each value to the nearest of the table, times the largest of its block."""
    table = torch.tensor(TABLE, device=weight.device)
    values = weight.detach().float().flatten()
    blocks = torch.nn.functional.pad(values, (0, -len(values) % block_size)).view(-1, block_size)
    largest = blocks.abs().amax(dim=1)
    scales, outer = _packed_scales(largest) if double else (largest, largest.new_empty(0))
    used = _scales(scales, outer)
    shares = blocks / torch.where(used == 0, torch.ones_like(used), used)[:, None]
    codes = torch.bucketize(shares, (table[1:] + table[:-1]) / 2).to(torch.uint8).flatten()
    return Packed(codes[0::2] * 16 + codes[1::2], scales, outer)


def unpack(packed: Packed, shape: torch.Size, *, block_size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the values that the codes stand for."""
    table = torch.tensor(TABLE, device=packed.codes.device)
    pairs = torch.cartesian_prod(table, table)
    values = pairs.index_select(0, packed.codes.int()).view(-1, block_size)
    values = values * _scales(packed.scales, packed.outer)[:, None]
    return values.flatten()[: shape.numel()].view(shape).to(dtype)


def rounded(weight: torch.Tensor, *, block_size: int, double: bool) -> torch.Tensor:
    """Return a tensor as it is once it has been in 4 bits."""
    packed = pack(weight, block_size=block_size, double=double)
    return unpack(packed, weight.shape, block_size=block_size, dtype=weight.dtype)


def _packed_scales(scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scales in 8 bits, and what they are in."""
    mean = scales.mean()
    groups = torch.nn.functional.pad(scales - mean, (0, -len(scales) % SCALES)).view(-1, SCALES)
    steps = groups.abs().amax(dim=1) / STEPS
    whole = (groups / torch.where(steps == 0, torch.ones_like(steps), steps)[:, None]).round().to(torch.int8)
    return whole.flatten()[: len(scales)].contiguous(), torch.cat([steps, mean[None]])


def _scales(scales: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
    if scales.dtype != torch.int8:
        return scales
    steps = outer[:-1].repeat_interleave(SCALES)[: len(scales)]
    return scales.float() * steps + outer[-1]


class _Product(torch.autograd.Function):
    """y = x W' + b; the backward pass unpacks W again, so that no whole W is kept."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, layer: "Nf4Linear", bias: torch.Tensor | None) -> torch.Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return torch.nn.functional.linear(x, layer.unpacked(x.dtype), bias)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, torch.Tensor | None]:
        needs_x, _, needs_bias = ctx.needs_input_grad
        grad_x = grad @ ctx.layer.unpacked(grad.dtype) if needs_x else None
        grad_bias = grad.flatten(0, -2).sum(0) if needs_bias else None
        return grad_x, None, grad_bias


class Nf4Linear(torch.nn.Linear):
    """A frozen linear layer in 4 bits; to PEFT it is a linear layer like any other."""

    codes: torch.Tensor
    scales: torch.Tensor
    outer: torch.Tensor

    def __init__(self, layer: torch.nn.Linear, *, block_size: int, double: bool) -> None:
        # Not torch's own beginning: that makes a weight, which here is only unpacked.
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.block_size = block_size
        packed = pack(layer.weight, block_size=block_size, double=double)
        for name in ("codes", "scales", "outer"):
            self.register_buffer(name, getattr(packed, name))
        self.bias = layer.bias

    def unpacked(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight (outputs, inputs)."""
        shape = torch.Size((self.out_features, self.in_features))
        return unpack(Packed(self.codes, self.scales, self.outer), shape, block_size=self.block_size, dtype=dtype)

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]  # torch's own is a tensor that is kept
        """The weight as fp32, unpacked anew each time it is asked for."""
        return self.unpacked(torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (…, outputs) for x (…, inputs), in the arithmetic that is asked for."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return _Product.apply(x.to(dtype), self, bias)
