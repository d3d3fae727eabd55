"""The loss of direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290)."""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid

from luthier.core.events import Emit
from luthier.examples.store import Encoded, Split
from luthier.model.step import StepModel
from luthier.train.batches import Cut
from luthier.train.methods.dpo.reference import Referenced, referenced
from luthier.train.methods.method import Part


class DpoLoss:
    """-log σ(β (log π(better)/π₀(better) - log π(worse)/π₀(worse))); the unit is the pair.

    Measures the share of pairs whose better answer has gained more than the worse one, and by how much (the margin of
    the rewards, β times the gain).
    """

    first_loss = math.log(2)
    """Before the first step the model is its own reference, and every margin is 0."""
    whole = False

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def referenced(self, step: StepModel, split: Split, cut: Cut, emit: Emit) -> Referenced:
        """Return the pairs with what the untuned model, as which every run begins, thinks of them."""
        return referenced(step, split, cut, emit)

    def units(self, rows: Sequence[Encoded]) -> int:
        """Return the number of pairs."""
        return len(rows)

    def __call__(self, model: StepModel, rows: Sequence[Encoded], /) -> Part:
        """Return the loss in nats summed over pairs."""
        logprobs = model.row_logprobs([answer for row in rows for answer in row.answers]).view(-1, 2)
        before = torch.tensor([row.reference for row in rows], dtype=logprobs.dtype, device=logprobs.device)
        margins = self.beta * (logprobs[:, 0] - logprobs[:, 1] - before)

        # A tie is half right: so counts the untuned model, whose margins are all 0.
        right = (margins.detach().sign() + 1) / 2
        measured = {"accuracy": right.sum(), "reward_margin": margins.detach().sum()}
        return Part(-logsigmoid(margins).sum(), len(rows), measured)
