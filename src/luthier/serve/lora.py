"""Linear layers that add to each row of a batch the update of its own adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.serve.adapters import EMPTY, Registry, Size
from luthier.serve.packed import product_with


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
    """A linear layer, y = x W' + b, with another one's weights, and the updates that the route names."""

    def __init__(self, layer: torch.nn.Linear | Conv1D, name: str, route: Route) -> None:
        super().__init__()
        weight_MK = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight
        self.size: Size = (weight_MK.shape[1], weight_MK.shape[0])
        """Inputs and outputs."""
        self._product = product_with(weight_MK.detach(), layer.bias)
        self._name, self._route = name, route

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (…, M) for x (…, K)."""
        x_NK = x.reshape(-1, x.shape[-1])
        y = self._product(x_NK)
        route = self._route
        stack = route.registry.stacks.get(self._name) if route.last > route.first else None
        if stack is not None:
            inner = x_NK @ stack.down_SK[route.first : route.last].t()
            if route.hidden_NS is not None:
                inner.masked_fill_(route.hidden_NS, 0)
            y.addmm_(inner, stack.up_SM[route.first : route.last])
        return y.view(*x.shape[:-1], -1)


def route_linears(model: PreTrainedModel) -> tuple[Route, dict[str, Size]]:
    """Exchange the linear layers of a model for routed ones with their weights; return the route and their sizes."""
    route, sizes = Route(), {}
    names = [name for name, module in model.named_modules() if type(module) in (torch.nn.Linear, Conv1D)]
    # One after the other, so that no more than one weight is in memory twice.
    for name in names:
        routed = RoutedLinear(model.get_submodule(name), name, route)
        model.set_submodule(name, routed)
        sizes[name] = routed.size
    return route, sizes
