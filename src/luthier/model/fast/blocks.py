"""The pieces of a Llama-like layer as autograd nodes that keep little and recompute only what is cheap."""

from typing import NamedTuple

import torch

from luthier.model.fast import linear
from luthier.model.fast.kernels import Kernels
from luthier.model.fast.linear import TENSORS, Casts, Projection


class Means(NamedTuple):
    """How a decoder computes: the dtype of its products and its element-wise kernels."""

    casts: Casts
    kernels: Kernels


def _split_needs(needs: tuple[bool, ...], first: int) -> list[tuple[bool, ...]]:
    rest = needs[first:]
    return [rest[i : i + TENSORS] for i in range(0, len(rest), TENSORS)]


class _NormLinears(torch.autograd.Function):
    """RMS norm (Zhang & Sennrich 2019), then several linear layers on the same input."""

    @staticmethod
    def forward(ctx, x_NC, gain_C, eps, means: Means, projections: list[Projection], *tensors):
        casts, kernels = means
        normed, inverse = kernels.rms_norm(x_NC, gain_C, eps, casts.dtype)
        results = [linear.forward(normed, projection, casts) for projection in projections]
        ctx.save_for_backward(x_NC, inverse, gain_C)
        ctx.products, ctx.means = [product for _, product in results], means
        return tuple(y for y, _ in results)

    @staticmethod
    def backward(ctx, *grads_NM):
        x, inverse, gain = ctx.saved_tensors
        casts, kernels = ctx.means
        normed = kernels.rms_scale(x, inverse, gain, casts.dtype)
        needs_x, needs_gain = ctx.needs_input_grad[:2]
        grad_normed, grads = None, []
        for grad, product, needs in zip(grads_NM, ctx.products, _split_needs(ctx.needs_input_grad, 5), strict=True):
            grad_normed, some = linear.backward(
                grad, normed, product, needs=needs, into=grad_normed, needs_x=needs_x or needs_gain
            )
            grads += some
        grad_x = grad_gain = None
        if needs_gain:
            grad_gain = (grad_normed.float() * x * inverse).sum(0)
        if needs_x:
            grad_x = kernels.rms_backward(grad_normed, x, inverse, gain)
        return grad_x, grad_gain, None, None, None, *grads


def norm_linears(
    x_NC: torch.Tensor, gain_C: torch.Tensor, eps: float, *, means: Means, projections: list[Projection]
) -> tuple[torch.Tensor, ...]:
    """Return each projection of the RMS-normed rows, in the arithmetic's dtype."""
    tensors = [tensor for projection in projections for tensor in projection.tensors()]
    return _NormLinears.apply(x_NC, gain_C, eps, means, projections, *tensors)


class _LinearAdd(torch.autograd.Function):
    """A linear layer added to the residual stream."""

    @staticmethod
    def forward(ctx, residual_NC, x_NK, means: Means, projection: Projection, *tensors):
        y, ctx.product = linear.forward(x_NK, projection, means.casts)
        ctx.save_for_backward(x_NK)
        return means.kernels.add(residual_NC, y)

    @staticmethod
    def backward(ctx, grad_NC):
        (x,) = ctx.saved_tensors
        grad_x, grads = linear.backward(
            grad_NC.to(x.dtype),
            x,
            ctx.product,
            needs=ctx.needs_input_grad[4:],
            into=None,
            needs_x=ctx.needs_input_grad[1],
        )
        return grad_NC, grad_x, None, None, *grads


def linear_add(residual_NC: torch.Tensor, x_NK: torch.Tensor, *, means: Means, projection: Projection) -> torch.Tensor:
    """Return residual + projection(x)."""
    return _LinearAdd.apply(residual_NC, x_NK, means, projection, *projection.tensors())


class _SwigluAdd(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020), a linear layer, and the residual; the product is recomputed, not kept."""

    @staticmethod
    def forward(ctx, residual_NC, gate_NF, up_NF, means: Means, projection: Projection, *tensors):
        y, ctx.product = linear.forward(means.kernels.swiglu(gate_NF, up_NF), projection, means.casts)
        ctx.save_for_backward(gate_NF, up_NF)
        ctx.kernels = means.kernels
        return means.kernels.add(residual_NC, y)

    @staticmethod
    def backward(ctx, grad_NC):
        gate, up = ctx.saved_tensors
        hidden = ctx.kernels.swiglu(gate, up)
        needs = ctx.needs_input_grad[5:]
        grad_hidden, grads = linear.backward(
            grad_NC.to(gate.dtype), hidden, ctx.product, needs=needs, into=None, needs_x=True
        )
        grad_gate, grad_up = ctx.kernels.swiglu_backward(grad_hidden, gate, up)
        return grad_NC, grad_gate, grad_up, None, None, *grads


def swiglu_add(
    residual_NC: torch.Tensor, gate_NF: torch.Tensor, up_NF: torch.Tensor, *, means: Means, projection: Projection
) -> torch.Tensor:
    """Return residual + projection(silu(gate) * up)."""
    return _SwigluAdd.apply(residual_NC, gate_NF, up_NF, means, projection, *projection.tensors())


class _Rotate(torch.autograd.Function):
    """Rotary position embedding; its gradient turns back."""

    @staticmethod
    def forward(ctx, x_NHD, cos_N1E, sin_N1E, kernels: Kernels):
        ctx.save_for_backward(cos_N1E, sin_N1E)
        ctx.kernels = kernels
        return kernels.rotate(x_NHD, cos_N1E, sin_N1E)

    @staticmethod
    def backward(ctx, grad_NHD):
        cos, sin = ctx.saved_tensors
        return ctx.kernels.rotate(grad_NHD, cos, -sin), None, None, None


def rotate(x_NHD: torch.Tensor, cos_N1E: torch.Tensor, sin_N1E: torch.Tensor, kernels: Kernels) -> torch.Tensor:
    """Return x with each head's halves turned by the position's angles (E = D / 2)."""
    return _Rotate.apply(x_NHD, cos_N1E, sin_N1E, kernels)


class _HeadNorm(torch.autograd.Function):
    """RMS norm over each head's channels (Qwen 3's q and k norm)."""

    @staticmethod
    def forward(ctx, x_NHD, gain_D, eps, kernels: Kernels):
        normed, inverse = kernels.rms_norm(x_NHD, gain_D, eps, x_NHD.dtype)
        ctx.save_for_backward(x_NHD, inverse, gain_D)
        ctx.kernels = kernels
        return normed

    @staticmethod
    def backward(ctx, grad_NHD):
        x, inverse, gain = ctx.saved_tensors
        grad_gain = None
        if ctx.needs_input_grad[1]:
            grad_gain = (grad_NHD.float() * x.float() * inverse).sum((0, 1))
        return ctx.kernels.rms_backward(grad_NHD, x, inverse, gain), grad_gain, None, None


def head_norm(x_NHD: torch.Tensor, gain_D: torch.Tensor, eps: float, kernels: Kernels) -> torch.Tensor:
    """Return each head's channels, RMS-normed."""
    return _HeadNorm.apply(x_NHD, gain_D, eps, kernels)
