"""What the loop needs of a method: the loss of rows, and in which units it is counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from luthier.core.events import Emit
from luthier.examples.store import Encoded, Split
from luthier.model.step import StepModel
from luthier.train.batches import Cut, Rows


@dataclass(frozen=True)
class Part:
    """The loss of some rows, summed over its units."""

    loss: torch.Tensor
    """With gradients."""
    units: int
    """Target tokens, or pairs."""
    measured: Mapping[str, torch.Tensor]
    """What else was measured, by name, summed over the units as well."""


class Method(Protocol):
    """A loss, and the unit it is counted in."""

    first_loss: float | None
    """The loss of the untuned model, where the method alone decides it."""
    whole: bool
    """Whether the loss is of a whole batch, whose rows are compared with each other, and no sum over rows."""

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Rows:
        """Return the rows with what the loss must know of the untuned model, which the step still is."""
        ...

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return how many units the rows have."""
        ...

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the summed loss of the rows."""
        ...


class Tally:
    """Sums over micro-batches."""

    def __init__(self) -> None:
        self.units = 0
        self.sums: Counter[str] = Counter()

    def add(self, part: Part) -> None:
        """Count one micro-batch."""
        self.units += part.units
        for name, value in {"loss": part.loss.detach(), **part.measured}.items():
            self.sums[name] += float(value)

    def means(self, prefix: str = "") -> dict[str, float]:
        """Return what was measured per unit by its name, `loss` first."""
        return {prefix + name: total / max(self.units, 1) for name, total in self.sums.items()}
