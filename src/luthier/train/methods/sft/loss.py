"""The loss of supervised fine-tuning."""

from collections.abc import Sequence

import torch

from luthier.core.events import Emit
from luthier.examples.store import Encoded, Split
from luthier.model.step import StepModel
from luthier.train.batches import Cut
from luthier.train.methods.method import Part


class SftLoss:
    """Cross-entropy in nats; the unit is the target token. Measures the share of tokens that are right."""

    first_loss = None
    whole = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Split:
        """Return the rows as they are."""
        return split

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return the number of target tokens; the first token of a row is never one."""
        return sum(sum(row.targets[1:]) for row in rows)

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the cross-entropy summed over target tokens."""
        # Where no gradient is taken the loss is only looked at, and stays comparable to the untuned model's.
        smoothing = self.label_smoothing if torch.is_grad_enabled() else 0.0
        priced = model.target_loss(rows, smoothing=smoothing)
        return Part(priced.total, priced.tokens, {"accuracy": priced.correct})
