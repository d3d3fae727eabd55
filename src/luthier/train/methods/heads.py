"""What methods with a head share: rows that know their truth in the head's own numbers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split

Truth = Callable[[Example, Encoded], tuple[float, ...]]


class Judged:
    """A split of texts, each with what the head is to say of it."""

    def __init__(self, split: Split, truth: Truth) -> None:
        self.split = split
        self._truth = truth

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.split)

    def encoded(self, index: int) -> Encoded:
        """Return one text's tokens with its truth."""
        encoded = self.split.encoded(index)
        return replace(encoded, truth=self._truth(self.split.example(index), encoded))


def truths(rows: Sequence[Encoded], device: torch.device) -> torch.Tensor:
    """Return the truth of rows as a tensor, (R, K), fp32."""
    return torch.tensor([row.truth for row in rows], dtype=torch.float32, device=device)
