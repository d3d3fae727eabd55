"""The pieces of a Llama-like layer as autograd nodes that keep little and recompute only what is cheap."""

import torch

from luthier.model.fast import linear
from luthier.model.fast.linear import TENSORS, Casts, Projection


def _split_needs(needs: tuple[bool, ...], first: int) -> list[tuple[bool, ...]]:
    rest = needs[first:]
    return [rest[i : i + TENSORS] for i in range(0, len(rest), TENSORS)]


def _rms(x_NC: torch.Tensor, eps: float) -> torch.Tensor:
    """Return 1 / root mean square of each row, (N, 1), in fp32."""
    norm = torch.linalg.vector_norm(x_NC, dim=-1, keepdim=True)
    return torch.rsqrt_(norm.square_().div_(x_NC.shape[-1]).add_(eps))


def _rms_backward(
    grad_NC: torch.Tensor, x_NC: torch.Tensor, rms_N1: torch.Tensor, gain_C: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of x for y = x * rms * gain."""
    grad = grad_NC * gain_C
    along = torch.linalg.vecdot(grad, x_NC).unsqueeze(-1)
    grad.mul_(rms_N1)
    return grad.addcmul_(x_NC, along * rms_N1.pow(3), value=-1.0 / x_NC.shape[-1])


class _NormLinears(torch.autograd.Function):
    """RMS norm (Zhang & Sennrich 2019), then several linear layers on the same input."""

    @staticmethod
    def forward(ctx, x_NC, gain_C, eps, casts: Casts, projections: list[Projection], *tensors):
        rms = _rms(x_NC, eps)
        normed = (x_NC * rms).mul_(gain_C).to(casts.dtype)
        results = [linear.forward(normed, projection, casts) for projection in projections]
        ctx.save_for_backward(x_NC, rms, gain_C)
        ctx.products, ctx.dtype = [product for _, product in results], casts.dtype
        return tuple(y for y, _ in results)

    @staticmethod
    def backward(ctx, *grads_NM):
        x, rms, gain = ctx.saved_tensors
        normed = (x * rms).mul_(gain).to(ctx.dtype)
        needs_x, needs_gain = ctx.needs_input_grad[:2]
        grad_normed, grads = None, []
        for grad, product, needs in zip(grads_NM, ctx.products, _split_needs(ctx.needs_input_grad, 5), strict=True):
            grad_normed, some = linear.backward(
                grad, normed, product, needs=needs, into=grad_normed, needs_x=needs_x or needs_gain
            )
            grads += some
        grad_x = grad_gain = None
        if needs_gain:
            grad_gain = (grad_normed.float() * x * rms).sum(0)
        if needs_x:
            grad_x = _rms_backward(grad_normed.float(), x, rms, gain)
        return grad_x, grad_gain, None, None, None, *grads


def norm_linears(
    x_NC: torch.Tensor, gain_C: torch.Tensor, eps: float, *, casts: Casts, projections: list[Projection]
) -> tuple[torch.Tensor, ...]:
    """Return each projection of the RMS-normed rows, in the arithmetic's dtype."""
    tensors = [tensor for projection in projections for tensor in projection.tensors()]
    return _NormLinears.apply(x_NC, gain_C, eps, casts, projections, *tensors)


class _LinearAdd(torch.autograd.Function):
    """A linear layer added to the residual stream."""

    @staticmethod
    def forward(ctx, residual_NC, x_NK, casts: Casts, projection: Projection, *tensors):
        y, ctx.product = linear.forward(x_NK, projection, casts)
        ctx.save_for_backward(x_NK)
        return residual_NC + y

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


def linear_add(residual_NC: torch.Tensor, x_NK: torch.Tensor, *, casts: Casts, projection: Projection) -> torch.Tensor:
    """Return residual + projection(x)."""
    return _LinearAdd.apply(residual_NC, x_NK, casts, projection, *projection.tensors())


class _SwigluAdd(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020), a linear layer, and the residual; the product is recomputed, not kept."""

    @staticmethod
    def forward(ctx, residual_NC, gate_NF, up_NF, casts: Casts, projection: Projection, *tensors):
        y, ctx.product = linear.forward(torch.nn.functional.silu(gate_NF).mul_(up_NF), projection, casts)
        ctx.save_for_backward(gate_NF, up_NF)
        return residual_NC + y

    @staticmethod
    def backward(ctx, grad_NC):
        gate, up = ctx.saved_tensors
        activated = torch.nn.functional.silu(gate)
        grad_hidden, grads = linear.backward(
            grad_NC.to(gate.dtype), activated * up, ctx.product, needs=ctx.needs_input_grad[5:], into=None, needs_x=True
        )
        grad_up = activated.mul_(grad_hidden)
        grad_gate = torch.ops.aten.silu_backward(grad_hidden.mul_(up), gate)
        return grad_NC, grad_gate, grad_up, None, None, *grads


def swiglu_add(
    residual_NC: torch.Tensor, gate_NF: torch.Tensor, up_NF: torch.Tensor, *, casts: Casts, projection: Projection
) -> torch.Tensor:
    """Return residual + projection(silu(gate) * up)."""
    return _SwigluAdd.apply(residual_NC, gate_NF, up_NF, casts, projection, *projection.tensors())


class _Rotate(torch.autograd.Function):
    """Rotary position embedding (Su et al. 2021), halves layout."""

    @staticmethod
    def forward(ctx, x_NHD, cos_N1E, sin_N1E):
        ctx.save_for_backward(cos_N1E, sin_N1E)
        return _rotated(x_NHD, cos_N1E, sin_N1E)

    @staticmethod
    def backward(ctx, grad_NHD):
        cos, sin = ctx.saved_tensors
        return _rotated(grad_NHD, cos, -sin), None, None


def _rotated(x_NHD: torch.Tensor, cos_N1E: torch.Tensor, sin_N1E: torch.Tensor) -> torch.Tensor:
    first, second = x_NHD.chunk(2, dim=-1)
    turned = torch.empty_like(x_NHD)
    left, right = turned.chunk(2, dim=-1)
    torch.mul(first, cos_N1E, out=left).addcmul_(second, sin_N1E, value=-1)
    torch.mul(second, cos_N1E, out=right).addcmul_(first, sin_N1E)
    return turned


def rotate(x_NHD: torch.Tensor, cos_N1E: torch.Tensor, sin_N1E: torch.Tensor) -> torch.Tensor:
    """Return x with each head's halves turned by the position's angles (E = D / 2)."""
    return _Rotate.apply(x_NHD, cos_N1E, sin_N1E)


class _HeadNorm(torch.autograd.Function):
    """RMS norm over each head's channels (Qwen 3's q and k norm)."""

    @staticmethod
    def forward(ctx, x_NHD, gain_D, eps):
        wide = x_NHD.float()
        rms = _rms(wide, eps)
        ctx.save_for_backward(x_NHD, rms, gain_D)
        return (wide * rms).mul_(gain_D).to(x_NHD.dtype)

    @staticmethod
    def backward(ctx, grad_NHD):
        x, rms, gain = ctx.saved_tensors
        grad, wide = grad_NHD.float(), x.float()
        grad_gain = (grad * wide * rms).sum((0, 1)) if ctx.needs_input_grad[1] else None
        return _rms_backward(grad, wide, rms, gain).to(x.dtype), grad_gain, None


def head_norm(x_NHD: torch.Tensor, gain_D: torch.Tensor, eps: float) -> torch.Tensor:
    """Return each head's channels, RMS-normed."""
    return _HeadNorm.apply(x_NHD, gain_D, eps)
