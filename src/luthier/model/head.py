"""LM head and cross-entropy in chunks: logits exist for one chunk at a time and are never kept.

The idea of computing the gradient in the forward pass is Liger Kernel's fused linear cross-entropy (arXiv:2410.10989).
"""

import torch

from luthier.model.fast.gemm import matmul
from luthier.model.fast.linear import Casts

CHUNK_ROWS = 256
"""Hidden rows per chunk: 256 x 49,152 logits in fp32 are 50 MB."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over rows of -log softmax(hidden @ weight.T + bias)[target]."""

    @staticmethod
    def forward(ctx, hidden_MC: torch.Tensor, weight_VC: torch.Tensor, bias_V: torch.Tensor | None, targets_M, casts):
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden_MC) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VC) if needs_weight else None
        grad_bias = torch.zeros_like(bias_V) if needs_bias else None
        weight, hidden = casts(weight_VC), hidden_MC.to(casts.dtype)
        total = hidden_MC.new_zeros((), dtype=torch.float32)

        for start in range(0, len(hidden), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            logits = matmul(hidden[rows], weight.t()).float()
            if bias_V is not None:
                logits += bias_V
            log_z = torch.logsumexp(logits, dim=-1, keepdim=True)
            target = targets_M[rows].unsqueeze(1)
            total += (log_z - logits.gather(1, target)).sum()

            # d loss / d logits is softmax - onehot; the probabilities replace the logits in place.
            if not (needs_hidden or needs_weight or needs_bias):
                continue
            grad = logits.sub_(log_z).exp_()
            grad.scatter_add_(1, target, torch.full_like(target, -1, dtype=grad.dtype))
            if needs_bias:
                grad_bias += grad.sum(0)
            grad = grad.to(casts.dtype)
            if needs_hidden:
                grad_hidden[rows] = matmul(grad, weight)
            if needs_weight:
                grad_weight += matmul(grad.t(), hidden[rows])

        ctx.save_for_backward(*(g for g in (grad_hidden, grad_weight, grad_bias) if g is not None))
        return total

    @staticmethod
    def backward(ctx, grad_total: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        kept = iter(ctx.saved_tensors)
        grads = [next(kept) * grad_total if needed else None for needed in ctx.needs_input_grad[:3]]
        return (*grads, None, None)


class Head:
    """The LM head, whose products run in the arithmetic's dtype; a frozen weight is cast once."""

    def __init__(self, layer: torch.nn.Linear, *, dtype: torch.dtype) -> None:
        self.layer = layer
        self.casts = Casts(dtype)

    def cross_entropy(self, hidden_MC: torch.Tensor, targets_M: torch.Tensor) -> torch.Tensor:
        """Return the summed cross-entropy in nats of M targets, given their hidden states (M, C)."""
        return _LinearCrossEntropy.apply(hidden_MC, self.layer.weight, self.layer.bias, targets_M, self.casts)
