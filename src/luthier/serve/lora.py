"""Linear layers that add to each row of a batch the update of its own adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.model.fast.gemm import matmul
from luthier.serve.adapters import EMPTY, Registry, Size


@dataclass
class Route:
    """Which adapters the rows of the present step use; set before each forward pass, on the engine's thread."""

    registry: Registry = EMPTY
    first: int = 0
    last: int = 0
    """The rows of the stacks that any of the batch's adapters takes; none where first is last."""
    hidden_NS: torch.Tensor | None = None
    """Whether a row of the batch does without a row of the stacks; None where all use them all."""

    def direct(self, registry: Registry, adapters: Sequence[Path | None]) -> None:
        """Lead each row of the next step to its adapter; one entry leads all rows of a prompt."""
        self.registry = registry
        places = [registry.places[adapter] if adapter else (0, 0) for adapter in adapters]
        used = [place for place in places if place[1]]
        self.first, self.last = min((a for a, _ in used), default=0), max((b for _, b in used), default=0)
        self.hidden_NS = None
        if any(place != (self.first, self.last) for place in places):
            self.hidden_NS = torch.ones(len(places), self.last - self.first, dtype=torch.bool)
            for row, (first, last) in enumerate(places):
                self.hidden_NS[row, max(first - self.first, 0) : max(last - self.first, 0)] = False


class RoutedLinear(torch.nn.Module):
    """A linear layer, y = x W' + b, on the weights of another one, and the updates that the route names."""

    def __init__(self, layer: torch.nn.Linear | Conv1D, name: str, route: Route) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._transposed = isinstance(layer, Conv1D)
        self._name, self._route = name, route

    @property
    def size(self) -> Size:
        """Inputs and outputs."""
        rows, columns = self.weight.shape
        return (rows, columns) if self._transposed else (columns, rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (…, M) for x (…, K)."""
        x_NK = x.reshape(-1, x.shape[-1])
        y = matmul(x_NK, self.weight if self._transposed else self.weight.t())
        if self.bias is not None:
            y += self.bias
        route = self._route
        stack = route.registry.stacks.get(self._name) if route.last > route.first else None
        if stack is not None:
            inner = x_NK @ stack.down_SK[route.first : route.last].t()
            if route.hidden_NS is not None:
                inner.masked_fill_(route.hidden_NS, 0)
            y.addmm_(inner, stack.up_SM[route.first : route.last])
        return y.view(*x.shape[:-1], -1)


def route_linears(model: PreTrainedModel) -> tuple[Route, dict[str, Size]]:
    """Exchange the linear layers of a model for routed ones on the same weights; return the route and their sizes."""
    route, sizes = Route(), {}
    layers = [(name, module) for name, module in model.named_modules() if type(module) in (torch.nn.Linear, Conv1D)]
    for name, layer in layers:
        routed = RoutedLinear(layer, name, route)
        model.set_submodule(name, routed)
        sizes[name] = routed.size
    return route, sizes
