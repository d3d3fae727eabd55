"""The loss of question answering: cross-entropy of the answer's first token, and of its last one."""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from luthier.core.events import Emit
from luthier.examples.store import Encoded, Split
from luthier.model.headstep import headed
from luthier.model.step import StepModel
from luthier.train.batches import Cut
from luthier.train.methods.heads import truths
from luthier.train.methods.method import Part
from luthier.train.windows import Windowed


class QaLoss:
    """The mean of two cross-entropies in nats; the unit is the window. Measures the share of windows all right.

    As transformers has it, over all tokens of a window, the question's included. But pads are no tokens: there they
    count, so that the loss of a row depends on the longest one beside it.
    """

    first_loss = None
    whole = False

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Windowed:
        """Return the windows of the rows, each with the places of the answer's ends."""
        return Windowed(split, headed(step).card, emit)

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return the number of windows."""
        return len(rows)

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the loss summed over windows."""
        said = headed(model).logits(rows).split([len(row.ids) for row in rows])
        logits_RTK = pad_sequence(list(said), batch_first=True, padding_value=-torch.inf)
        ends = truths(rows, logits_RTK.device).long()
        losses = [cross_entropy(logits_RTK[..., side], ends[:, side], reduction="sum") for side in (0, 1)]
        right = (logits_RTK.argmax(dim=1) == ends).all(dim=-1)
        return Part((losses[0] + losses[1]) / 2, len(rows), {"accuracy": right.sum()})
