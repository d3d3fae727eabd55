"""Linear layers that add to each row of a batch the update of its own adapter."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.serve.adapters import EMPTY, Registry, Size, Stack
from luthier.serve.packed import product_with

Span = tuple[Path | None, int]
"""Whose the next rows of a batch are, and how many they are."""
Place = tuple[int, int]
"""An adapter's first row in the stacks, and the row after its last."""
SPARE_ROWS = 16
"""So many rows more may be computed in vain for one product fewer."""


@dataclass(frozen=True)
class Group:
    """Adapters that lie side by side in the stacks, and the batch's rows of each; one batched product serves them."""

    first: int
    count: int
    rank: int
    taken_P: torch.Tensor | slice
    """The rows of each adapter, one adapter after the other, as many of each: the shorter ones repeat a row."""
    places: torch.Tensor | slice
    """Where the updates go."""
    kept: torch.Tensor | None
    """Which of the P updates go there, in that order; None for all as they are."""

    def add(self, x_NK: torch.Tensor, stack: Stack, y_NM: torch.Tensor) -> None:
        """Add the updates to y."""
        last = self.first + self.count * self.rank
        down_SK, up_SM = stack.down_SK[self.first : last], stack.up_SM[self.first : last]
        x_PK = x_NK[self.taken_P] if isinstance(self.taken_P, slice) else x_NK.index_select(0, self.taken_P)
        if self.count == 1:
            update_PM = (x_PK @ down_SK.t()) @ up_SM
        else:
            x_ANK = x_PK.view(self.count, -1, x_NK.shape[-1])
            # The larger side first: so it was measured faster.
            inner_ARN = down_SK.view(self.count, self.rank, -1) @ x_ANK.transpose(1, 2)
            update_PM = (inner_ARN.transpose(1, 2) @ up_SM.view(self.count, self.rank, -1)).flatten(0, 1)
        if self.kept is not None:
            update_PM = update_PM.index_select(0, self.kept)
        if isinstance(self.places, slice):
            y_NM[self.places] += update_PM
        else:
            y_NM.index_add_(0, self.places, update_PM)


@dataclass
class Route:
    """Which adapters the rows of the present step use; set before each forward pass, on the engine's thread."""

    registry: Registry = EMPTY
    groups: list[Group] = field(default_factory=list)
    head_groups: list[Group] = field(default_factory=list)
    """The same for the output layer, which computes some of the rows only."""

    def direct(self, registry: Registry, spans: Sequence[Span], head: Sequence[Path | None] = ()) -> None:
        """Lead the rows of the next step to their adapters, and those of its output layer."""
        self.registry = registry
        self.groups = _groups(registry, spans)
        self.head_groups = _groups(registry, [(adapter, 1) for adapter in head])


class RoutedLinear(torch.nn.Module):
    """A linear layer, y = x W' + b, with another one's weights, and the updates that the route names."""

    def __init__(self, layer: torch.nn.Linear | Conv1D, name: str, route: Route, *, is_head: bool = False) -> None:
        super().__init__()
        weight_MK = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight
        self.size: Size = (weight_MK.shape[1], weight_MK.shape[0])
        """Inputs and outputs."""
        self._product = product_with(weight_MK.detach(), layer.bias)
        self._name, self._route, self._is_head = name, route, is_head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (…, M) for x (…, K)."""
        x_NK = x.reshape(-1, x.shape[-1])
        y_NM = self._product(x_NK)
        stack = self._route.registry.stacks.get(self._name)
        if stack is not None:
            for group in self._route.head_groups if self._is_head else self._route.groups:
                group.add(x_NK, stack, y_NM)
        return y_NM.view(*x.shape[:-1], -1)


def route_linears(model: PreTrainedModel) -> tuple[Route, dict[str, Size]]:
    """Exchange the linear layers of a model for routed ones with their weights; return the route and their sizes."""
    route, sizes = Route(), {}
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if type(module) in (torch.nn.Linear, Conv1D)]
    # One after the other, so that no more than one weight is in memory twice.
    for name in names:
        layer = model.get_submodule(name)
        routed = RoutedLinear(layer, name, route, is_head=layer is head)
        model.set_submodule(name, routed)
        sizes[name] = routed.size
    return route, sizes


def _groups(registry: Registry, spans: Sequence[Span]) -> list[Group]:
    rows_of: dict[Place, list[int]] = {}
    row = 0
    for adapter, rows in spans:
        if adapter is not None:
            rows_of.setdefault(registry.places[adapter], []).extend(range(row, row + rows))
        row += rows
    runs: list[list[Place]] = []
    for place in sorted(rows_of):
        if runs and _fits(place, runs[-1], rows_of):
            runs[-1].append(place)
        else:
            runs.append([place])
    return [_group(run, rows_of) for run in runs]


def _fits(place: Place, run: list[Place], rows_of: dict[Place, list[int]]) -> bool:
    """Say whether an adapter lies beside others, has their rank, and has about as many rows."""
    first, last = run[-1]
    counts = [len(rows_of[one]) for one in (*run, place)]
    is_beside = place == (last, last + last - first)
    return is_beside and len(counts) * max(counts) <= sum(counts) + SPARE_ROWS


def _group(run: list[Place], rows_of: dict[Place, list[int]]) -> Group:
    each = [rows_of[place] for place in run]
    longest = max(map(len, each))
    taken = [row for rows in each for row in rows + rows[:1] * (longest - len(rows))]
    # The updates go to the rows in their order, so that rows side by side are one slice.
    by_row = sorted((row, a * longest + place) for a, rows in enumerate(each) for place, row in enumerate(rows))
    kept = [place for _, place in by_row]
    return Group(
        first=run[0][0],
        count=len(run),
        rank=run[0][1] - run[0][0],
        taken_P=_slice_or_index(taken),
        places=_slice_or_index([row for row, _ in by_row]),
        kept=None if kept == list(range(len(taken))) else torch.tensor(kept),
    )


def _slice_or_index(rows: list[int]) -> torch.Tensor | slice:
    is_slice = rows == list(range(rows[0], rows[0] + len(rows)))
    return slice(rows[0], rows[0] + len(rows)) if is_slice else torch.tensor(rows)
