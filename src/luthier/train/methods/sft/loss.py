"""The loss of supervised fine-tuning."""

from collections.abc import Callable, Sequence

from luthier.examples.store import Encoded
from luthier.model.step import StepModel, TargetLoss

LossFn = Callable[[StepModel, Sequence[Encoded]], TargetLoss]


def sft_loss(model: StepModel, rows: Sequence[Encoded]) -> TargetLoss:
    """Return the cross-entropy in nats summed over target tokens; the unit is the target token."""
    return model.target_loss(rows)
