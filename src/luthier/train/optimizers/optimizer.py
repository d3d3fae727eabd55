"""The optimiser as the loop uses it: one of torch's or several, over named weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from luthier.train.optimizers.groups import groups_of
from luthier.train.spec import TrainSpec

Tensors = dict[str, torch.Tensor]
Numbers = list[list[dict[str, float]]]
"""Of each part, and of each of its groups, the numbers it keeps."""


class Optimizer:
    """Steps named weights, and tells its state by their names."""

    def __init__(self, weights: Mapping[str, torch.nn.Parameter], spec: TrainSpec) -> None:
        self.names = {weight: name for name, weight in weights.items()}
        self.parts = spec.optimizer.build()(groups_of(weights, spec), spec.betas)
        self.averages = spec.optimizer.averages

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; each group takes its share."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group["share"]

    def step(self) -> None:
        """Move the weights."""
        for part in self.parts:
            part.step()

    def forget(self) -> None:
        """Drop the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the optimiser's own average stand in the weights for a while; then all is as it was, to the bit."""
        before = [weight.detach().clone() for weight in self.names]
        for part in self.parts:
            part.eval()
        try:
            yield
        finally:
            for part in self.parts:
                part.train()
            with torch.no_grad():
                for weight, kept in zip(self.names, before, strict=True):
                    weight.copy_(kept)

    def tensors(self) -> Tensors:
        """Return copies of the state's tensors as `weight::key`."""
        found = {f"{name}::{key}": value for name, key, value in self._state() if isinstance(value, torch.Tensor)}
        return {name: value.detach().cpu().clone() for name, value in found.items()}

    def scalars(self) -> dict[str, float]:
        """Return the state's plain numbers as `weight::key`."""
        return {f"{name}::{key}": value for name, key, value in self._state() if isinstance(value, int | float)}

    def numbers(self) -> Numbers:
        """Return the numbers that the groups keep beside the weights' own state."""
        return [[_numbers(group) for group in part.param_groups] for part in self.parts]

    def load(self, tensors: Tensors, scalars: Mapping[str, float], numbers: Numbers) -> None:
        """Take up a state that `tensors`, `scalars` and `numbers` told."""
        states: dict[str, dict[str, Any]] = {}
        for place, value in {**tensors, **scalars}.items():
            name, key = place.rsplit("::", 1)
            states.setdefault(name, {})[key] = value
        for part, kept in zip(self.parts, numbers, strict=True):
            groups = part.state_dict()["param_groups"]
            places = dict(zip(self._weights(part), (i for group in groups for i in group["params"]), strict=True))
            state = {i: states[self.names[weight]] for weight, i in places.items() if self.names[weight] in states}
            groups = [{**group, **own} for group, own in zip(groups, kept, strict=True)]
            part.load_state_dict({"state": state, "param_groups": groups})

    def _state(self) -> Iterator[tuple[str, str, Any]]:
        for part in self.parts:
            for weight in self._weights(part):
                for key, value in part.state.get(weight, {}).items():
                    yield self.names[weight], key, value

    @staticmethod
    def _weights(part: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
        return [weight for group in part.param_groups for weight in group["params"]]


def _numbers(group: Mapping[str, Any]) -> dict[str, float]:
    # Flags such as `fused` are this machine's, not the run's.
    return {key: value for key, value in group.items() if type(value) in (int, float)}
