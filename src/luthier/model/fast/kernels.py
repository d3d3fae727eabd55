"""The element-wise pieces of a layer, plain or compiled: one pass over memory instead of five."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch.nn.functional import silu

from luthier.core.settings import cache_dir


def rms_norm(x_NC: torch.Tensor, gain_C: torch.Tensor, eps: float, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Return x / rms(x) * gain in `dtype` and 1 / rms (N, 1) in fp32 (Zhang & Sennrich 2019)."""
    inverse = torch.rsqrt(x_NC.float().square().mean(-1, keepdim=True) + eps)
    return (x_NC * inverse * gain_C).to(dtype), inverse


def rms_scale(x_NC: torch.Tensor, inverse_N1: torch.Tensor, gain_C: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the normed rows again, from 1 / rms."""
    return (x_NC * inverse_N1 * gain_C).to(dtype)


def rms_backward(
    grad_NC: torch.Tensor, x_NC: torch.Tensor, inverse_N1: torch.Tensor, gain_C: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of x, in its dtype."""
    grad, x = grad_NC.float() * gain_C, x_NC.float()
    along = (grad * x).mean(-1, keepdim=True)
    return ((grad - x * along * inverse_N1.square()) * inverse_N1).to(x_NC.dtype)


def swiglu(gate_NF: torch.Tensor, up_NF: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up (Shazeer 2020)."""
    return silu(gate_NF) * up_NF


def swiglu_backward(grad_NF: torch.Tensor, gate_NF: torch.Tensor, up_NF: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the gradients of gate and up."""
    gate, grad = gate_NF.float(), grad_NF.float()
    share = torch.sigmoid(gate)
    slope = share * (1 + gate * (1 - share))
    return (grad * up_NF * slope).to(gate_NF.dtype), (grad * gate * share).to(gate_NF.dtype)


def rotate(x_NHD: torch.Tensor, cos_N1E: torch.Tensor, sin_N1E: torch.Tensor) -> torch.Tensor:
    """Return x with each head's halves turned by the position's angles, E = D / 2 (Su et al. 2021)."""
    first, second = x_NHD.chunk(2, dim=-1)
    turned = torch.cat([first * cos_N1E - second * sin_N1E, second * cos_N1E + first * sin_N1E], dim=-1)
    return turned.to(x_NHD.dtype)


def add(residual_NC: torch.Tensor, y_NC: torch.Tensor) -> torch.Tensor:
    """Return the sum, in the residual's dtype."""
    return residual_NC + y_NC


@dataclass(frozen=True)
class Kernels:
    """The functions a decoder runs; `compiled()` makes each one a single pass."""

    rms_norm: Callable[..., tuple[torch.Tensor, ...]] = rms_norm
    rms_scale: Callable[..., torch.Tensor] = rms_scale
    rms_backward: Callable[..., torch.Tensor] = rms_backward
    swiglu: Callable[..., torch.Tensor] = swiglu
    swiglu_backward: Callable[..., tuple[torch.Tensor, ...]] = swiglu_backward
    rotate: Callable[..., torch.Tensor] = rotate
    add: Callable[..., torch.Tensor] = add

    @classmethod
    def compiled(cls) -> "Kernels":
        """Return the same functions through torch.compile, for any number of rows; what is compiled is kept."""
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))
        return cls(**{f.name: torch.compile(f.default, dynamic=True) for f in fields(cls)})
