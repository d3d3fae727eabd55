"""The loss of classification: cross-entropy of one label, or of each label by itself."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from luthier.core.errors import DataError
from luthier.core.events import Emit
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.model.headcard import HeadCard
from luthier.model.headstep import headed
from luthier.model.step import StepModel
from luthier.train.batches import Cut
from luthier.train.methods.heads import Judged, truths
from luthier.train.methods.method import Part

ClassWeights = Literal["none", "balanced"] | Mapping[str, float]


class ClassifyLoss:
    """Cross-entropy in nats; the unit is the row, whatever its label weighs. Measures the share of rows all right.

    With several labels a row's loss is the mean over the labels, as transformers has it.
    """

    first_loss = None
    whole = False

    def __init__(self, class_weights: ClassWeights) -> None:
        self.class_weights = class_weights

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Judged:
        """Return the rows with the numbers of their labels."""
        numbers = {label: number for number, label in enumerate(headed(step).card.labels)}

        def truth(example: Example, encoded: Encoded) -> tuple[float, ...]:
            if example.labels is None:
                return (float(numbers[example.label or ""]),)
            return tuple(float(label in example.labels) for label in numbers)

        return Judged(split, truth)

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return the number of rows."""
        return len(rows)

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the loss summed over rows."""
        step = headed(model)
        logits = step.logits(rows)
        truth, weights = truths(rows, logits.device), weights_of(self.class_weights, step.card).to(logits.device)
        if step.card.kind == "label":
            labels = truth[:, 0].long()
            losses = cross_entropy(logits, labels, weight=weights, reduction="none")
            right = logits.argmax(-1) == labels
        else:
            losses = binary_cross_entropy_with_logits(logits, truth, pos_weight=weights, reduction="none").mean(-1)
            right = ((logits > 0) == (truth > 0)).all(-1)
        return Part(losses.sum(), len(rows), {"accuracy": right.sum()})


def weights_of(asked: ClassWeights, card: HeadCard) -> torch.Tensor:
    """Return how much each label weighs, (K,).

    Balanced: of one label, rows / (labels x rows of it), so that the mean over rows stays 1; of several, how many rows
    lack the label for each that has it, which is what makes both sides weigh the same.
    """
    if isinstance(asked, str):
        return torch.ones(card.outputs) if asked == "none" else _balanced(card)
    unknown = sorted(set(asked) - set(card.labels))
    if unknown:
        where, why = {"field": "train.method.class_weights"}, f"the labels are {', '.join(card.labels[:20])}"
        hint = "name the labels as the rows do; those not named weigh 1"
        raise DataError(f"no row has the label `{unknown[0]}`", where=where, why=why, hint=hint)
    return torch.tensor([float(asked.get(label, 1.0)) for label in card.labels])


def _balanced(card: HeadCard) -> torch.Tensor:
    # A label without a training row has no loss to weigh.
    counts = torch.tensor([float(count) for count in card.rows]).clamp(min=1)
    if card.kind == "label":
        met = sum(count > 0 for count in card.rows)
        return sum(card.rows) / (max(met, 1) * counts)
    return (card.texts - counts).clamp(min=1) / counts
