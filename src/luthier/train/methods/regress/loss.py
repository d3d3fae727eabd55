"""The loss of regression: the squared error, in squares of the training rows' spread."""

from collections.abc import Sequence

import torch

from luthier.core.events import Emit
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.model.headstep import headed
from luthier.model.step import StepModel
from luthier.train.batches import Cut
from luthier.train.methods.heads import Judged, truths
from luthier.train.methods.method import Part


class RegressLoss:
    """Squared error; the unit is the row. Who always says the mean has a loss of 1. Measures the absolute error."""

    first_loss = None
    whole = False

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Judged:
        """Return the rows with their numbers, counted from the mean in spreads."""
        card = headed(step).card

        def truth(example: Example, encoded: Encoded) -> tuple[float, ...]:
            return (((example.score or 0.0) - card.mean) / card.spread,)

        return Judged(split, truth)

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return the number of rows."""
        return len(rows)

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the loss summed over rows."""
        step = headed(model)
        errors: torch.Tensor = step.logits(rows) - truths(rows, next(step.model.parameters()).device)
        return Part(
            errors.square().sum(), len(rows), {"absolute_error": errors.detach().abs().sum() * step.card.spread}
        )
