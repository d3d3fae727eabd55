"""Linear layers with LoRA as one autograd node: no weight gradient for frozen weights, no extra copies."""

from dataclasses import dataclass

import torch

from luthier.model.fast.gemm import matmul


@dataclass(frozen=True)
class Projection:
    """A linear layer, y = x W' + b + s (x A') B', read from the model's own parameters."""

    weight_MK: torch.Tensor
    bias_M: torch.Tensor | None = None
    down_RK: torch.Tensor | None = None
    """LoRA's A."""
    up_MR: torch.Tensor | None = None
    """LoRA's B."""
    scale: float = 1.0

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """Return what may need a gradient, in a fixed order."""
        return self.weight_MK, self.bias_M, self.down_RK, self.up_MR


TENSORS = 4


class Casts:
    """Frozen weights in the arithmetic's dtype, cast once."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._cast: dict[int, torch.Tensor] = {}

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight in `dtype`; trained weights are cast anew each time."""
        if weight.dtype == self.dtype or weight.requires_grad:
            return weight.detach().to(self.dtype)
        if id(weight) not in self._cast:
            self._cast[id(weight)] = weight.detach().to(self.dtype)
        return self._cast[id(weight)]


@dataclass
class Product:
    """One forward product and what its backward needs."""

    weight_MK: torch.Tensor
    down_RK: torch.Tensor | None
    up_MR: torch.Tensor | None
    """B, times the scale."""
    inner_NR: torch.Tensor | None
    scale: float


def forward(x_NK: torch.Tensor, projection: Projection, casts: Casts) -> tuple[torch.Tensor, Product]:
    """Return y (N, M) and the product's record; x is in the arithmetic's dtype."""
    weight = casts(projection.weight_MK)
    y = matmul(x_NK, weight.t())
    if projection.bias_M is not None:
        y += projection.bias_M.detach().to(y.dtype)
    if projection.down_RK is None:
        return y, Product(weight, None, None, None, 1.0)
    down = projection.down_RK.detach().to(casts.dtype)
    up = (projection.up_MR.detach() * projection.scale).to(casts.dtype)
    inner = matmul(x_NK, down.t())
    _add_product(y, inner, up.t())
    return y, Product(weight, down, up, inner, projection.scale)


def _add_product(y: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """y += a @ b, in place."""
    if y.dtype == torch.float32:
        y += matmul(a, b)
    else:
        y.addmm_(a, b)


def backward(
    grad_NM: torch.Tensor,
    x_NK: torch.Tensor,
    product: Product,
    *,
    needs: tuple[bool, ...],
    into: torch.Tensor | None,
    needs_x: bool,
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """Return the gradient of x, added to `into` where given, and those of weight, bias, A and B."""
    needs_weight, needs_bias, needs_down, needs_up = needs
    grads: list[torch.Tensor | None] = [None] * TENSORS
    if needs_weight:
        grads[0] = matmul(grad_NM.t(), x_NK).float()
    if needs_bias:
        grads[1] = grad_NM.float().sum(0)
    outer = matmul(grad_NM, product.up_MR) if product.up_MR is not None else None
    if needs_down:
        grads[2] = matmul(outer.t(), x_NK).float()
    if needs_up:
        grads[3] = (matmul(product.inner_NR.t(), grad_NM).t() * product.scale).float()
    if not needs_x:
        return None, grads

    grad_x = matmul(grad_NM, product.weight_MK)
    if outer is not None:
        _add_product(grad_x, outer, product.down_RK)
    return (grad_x if into is None else into.add_(grad_x)), grads
