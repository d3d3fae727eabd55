"""The loss of extraction: cross-entropy of each word's tag, at the word's first token."""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from luthier.core.events import Emit
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.model.headstep import headed
from luthier.model.step import StepModel
from luthier.train.batches import Cut
from luthier.train.methods.heads import Judged
from luthier.train.methods.method import Part


class ExtractLoss:
    """Cross-entropy in nats; the unit is the word. Measures the share of words whose tag is right."""

    first_loss = None
    whole = False

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Judged:
        """Return the rows with the numbers of their words' tags."""
        numbers = {tag: float(number) for number, tag in enumerate(headed(step).card.labels)}

        def truth(example: Example, encoded: Encoded) -> tuple[float, ...]:
            return tuple(numbers[tag] for tag in encoded.tags)

        return Judged(split, truth)

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return the number of words."""
        return sum(len(row.words) for row in rows)

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the loss summed over words."""
        logits = headed(model).logits(rows)
        tags = torch.tensor([number for row in rows for number in row.truth], device=logits.device).long()
        right = (logits.argmax(-1) == tags).sum()
        return Part(cross_entropy(logits, tags, reduction="sum"), len(tags), {"accuracy": right})
