"""A moving average of the trained weights, which is validated and kept in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

Tensors = dict[str, torch.Tensor]


class Average:
    """Beside each weight its average, of which every step leaves the same share; it begins at the first weights."""

    def __init__(self, weights: Mapping[str, torch.nn.Parameter], decay: float) -> None:
        self.weights = weights
        self.decay = decay
        self.tensors: Tensors = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def follow(self) -> None:
        """Take in the weights after a step."""
        for name, weight in self.weights.items():
            self.tensors[name].lerp_(weight, 1 - self.decay)

    @torch.no_grad()
    def load(self, tensors: Tensors) -> None:
        """Take up an average from a checkpoint."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Let the average stand in the weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self.weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)
