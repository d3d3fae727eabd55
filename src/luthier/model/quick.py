"""Quick: a loaded model whose linear layers use this machine's faster matrix product; it answers, but does not train.

Measured on two cores of an EPYC with SmolLM2-135M: answers 1.4 to 1.7 times as fast.
"""

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.model.fast.gemm import matmul


class QuickLinear(torch.nn.Module):
    """A linear layer, y = x W' + b, on the weights of another one."""

    def __init__(self, layer: torch.nn.Linear | Conv1D) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._transposed = isinstance(layer, Conv1D)
        # An adapter beside it may ask for them.
        self.out_features, self.in_features = self.weight.t().shape if self._transposed else self.weight.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (…, M) for x (…, K)."""
        weight_KM = self.weight if self._transposed else self.weight.t()
        y = matmul(x.reshape(-1, x.shape[-1]), weight_KM)
        if self.bias is not None:
            y += self.bias
        return y.view(*x.shape[:-1], -1)


def quicken(model: PreTrainedModel) -> PreTrainedModel:
    """Exchange the linear layers of a model for quick ones on the same weights, and return the model."""
    layers = [(name, module) for name, module in model.named_modules() if type(module) in (torch.nn.Linear, Conv1D)]
    for name, layer in layers:
        model.set_submodule(name, QuickLinear(layer))
    return model
