"""LM head, cross-entropy and log-probabilities in chunks: logits exist for one chunk at a time and are never kept.

The idea of computing the gradient in the forward pass is Liger Kernel's fused linear cross-entropy (arXiv:2410.10989).
"""

from collections.abc import Iterator

import torch

from luthier.model.fast.gemm import matmul
from luthier.model.fast.linear import Casts

CHUNK_ROWS = 256
"""Hidden rows per chunk: 256 x 49,152 logits in fp32 are 50 MB."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over rows of -log softmax(hidden @ weight.T + bias)[target], and how many targets are the likeliest.

    With smoothing, so large a share of each row's target is spread evenly over all tokens.
    """

    @staticmethod
    def forward(  # noqa: PLR0913 (autograd passes them by place)
        ctx, hidden_MC: torch.Tensor, weight_VC: torch.Tensor, bias_V: torch.Tensor | None, targets_M, casts, smoothing
    ):
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden_MC) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VC) if needs_weight else None
        grad_bias = torch.zeros_like(bias_V) if needs_bias else None
        weight, hidden = casts(weight_VC), hidden_MC.to(casts.dtype)
        total = hidden_MC.new_zeros((), dtype=torch.float32)
        correct = hidden_MC.new_zeros((), dtype=torch.long)

        for rows in _chunks(len(hidden)):
            logits = _logits(hidden[rows], weight, bias_V)
            target = targets_M[rows].unsqueeze(1)
            reached = logits.gather(1, target)
            # The largest logit is wanted for the sum anyway; where it stands tells which token is the likeliest.
            top, likeliest = logits.max(dim=-1, keepdim=True)
            correct += (likeliest == target).sum()
            if smoothing:
                reached = reached.lerp(logits.mean(-1, keepdim=True), smoothing)
            powers = logits.sub_(top).exp_()
            z = powers.sum(-1, keepdim=True)
            total += (z.log() + top - reached).sum()

            # d loss / d logits is softmax - onehot; the probabilities replace the logits in place.
            if not (needs_hidden or needs_weight or needs_bias):
                continue
            grad = powers.div_(z)
            if smoothing:
                grad -= smoothing / grad.shape[1]
            grad.scatter_add_(1, target, torch.full_like(target, smoothing - 1, dtype=grad.dtype))
            if needs_bias:
                grad_bias += grad.sum(0)
            grad = grad.to(casts.dtype)
            if needs_hidden:
                grad_hidden[rows] = matmul(grad, weight)
            if needs_weight:
                grad_weight += matmul(grad.t(), hidden[rows])

        ctx.save_for_backward(*(g for g in (grad_hidden, grad_weight, grad_bias) if g is not None))
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx, grad_total: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        kept = iter(ctx.saved_tensors)
        grads = [next(kept) * grad_total if needed else None for needed in ctx.needs_input_grad[:3]]
        return (*grads, None, None, None)


class _LinearLogprobs(torch.autograd.Function):
    """log softmax(hidden @ weight.T + bias)[target] of each row; the backward pass computes the logits again.

    Unlike the sum's, its gradient is only known once the rows' own weights in the loss are.
    """

    @staticmethod
    def forward(ctx, hidden_MC: torch.Tensor, weight_VC: torch.Tensor, bias_V: torch.Tensor | None, targets_M, casts):
        weight, hidden = casts(weight_VC), hidden_MC.to(casts.dtype)
        log_z, logprobs = (hidden_MC.new_empty(len(hidden), dtype=torch.float32) for _ in range(2))
        for rows in _chunks(len(hidden)):
            logits = _logits(hidden[rows], weight, bias_V)
            log_z[rows] = torch.logsumexp(logits, dim=-1)
            logprobs[rows] = logits.gather(1, targets_M[rows].unsqueeze(1)).squeeze(1) - log_z[rows]
        ctx.save_for_backward(hidden, weight_VC, bias_V, targets_M, log_z)
        ctx.casts, ctx.hidden_dtype = casts, hidden_MC.dtype
        return logprobs

    @staticmethod
    def backward(ctx, grad_M: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight_VC, bias_V, targets_M, log_z = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        weight = ctx.casts(weight_VC)
        grad_hidden = torch.empty_like(hidden, dtype=ctx.hidden_dtype) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VC) if needs_weight else None
        grad_bias = torch.zeros_like(bias_V) if needs_bias else None
        for rows in _chunks(len(hidden)):
            # d log p / d logits is onehot - softmax.
            own = grad_M[rows].unsqueeze(1)
            grad = _logits(hidden[rows], weight, bias_V).sub_(log_z[rows].unsqueeze(1)).exp_().mul_(-own)
            grad.scatter_add_(1, targets_M[rows].unsqueeze(1), own)
            if needs_bias:
                grad_bias += grad.sum(0)
            grad = grad.to(ctx.casts.dtype)
            if needs_hidden:
                grad_hidden[rows] = matmul(grad, weight)
            if needs_weight:
                grad_weight += matmul(grad.t(), hidden[rows])
        return grad_hidden, grad_weight, grad_bias, None, None


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, count, CHUNK_ROWS))


def _logits(hidden_MC: torch.Tensor, weight_VC: torch.Tensor, bias_V: torch.Tensor | None) -> torch.Tensor:
    logits = matmul(hidden_MC, weight_VC.t()).float()
    return logits if bias_V is None else logits.add_(bias_V)


class Head:
    """The LM head, whose products run in the arithmetic's dtype; a frozen weight is cast once."""

    def __init__(self, layer: torch.nn.Linear, *, dtype: torch.dtype) -> None:
        self.layer = layer
        self.casts = Casts(dtype)

    def cross_entropy(
        self, hidden_MC: torch.Tensor, targets_M: torch.Tensor, *, smoothing: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed cross-entropy in nats of M targets, and how many are right, given their hidden states."""
        return _LinearCrossEntropy.apply(
            hidden_MC, self.layer.weight, self.layer.bias, targets_M, self.casts, smoothing
        )

    def logprobs(self, hidden_MC: torch.Tensor, targets_M: torch.Tensor) -> torch.Tensor:
        """Return the log-probability in nats of each of M targets, fp32 (M,), given their hidden states."""
        return _LinearLogprobs.apply(hidden_MC, self.layer.weight, self.layer.bias, targets_M, self.casts)
