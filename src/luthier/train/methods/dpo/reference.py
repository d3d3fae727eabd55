"""What the untuned model thinks of pairs: computed once, before the first step, and kept in memory (4 bytes a pair)."""

from dataclasses import replace

import numpy as np
import torch

from luthier.core.events import Emit, Event
from luthier.examples.store import Encoded, Split
from luthier.model.step import StepModel, at_rest
from luthier.train.batches import Cut

ROWS = 256
"""Pairs read at once."""


class Referenced:
    """A split of pairs, each with the reference beside it."""

    def __init__(self, split: Split, margins: np.ndarray) -> None:
        self.split = split
        self.margins = margins

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.split)

    def encoded(self, index: int) -> Encoded:
        """Return one pair."""
        return replace(self.split.encoded(index), reference=float(self.margins[index]))


@torch.no_grad()
def referenced(step: StepModel, split: Split, cut: Cut, emit: Emit) -> Referenced:
    """Price both answers of each pair by the model as it is now; the same rows always give the same bits."""
    margins = np.zeros(len(split), dtype=np.float32)
    with at_rest(step.model):
        for start in range(0, len(split), ROWS):
            rows = [split.encoded(i) for i in range(start, min(start + ROWS, len(split)))]
            for places in cut.places(rows):
                logprobs = step.row_logprobs([answer for i in places for answer in rows[i].answers]).view(-1, 2)
                margins[[start + i for i in places]] = (logprobs[:, 0] - logprobs[:, 1]).cpu().numpy()
            data = {"done": start + len(rows), "total": len(split)}
            emit(Event(room="train", kind="progress", message="pairs priced by the untuned model", data=data))
    return Referenced(split, margins)
