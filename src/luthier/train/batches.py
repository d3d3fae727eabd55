"""Which rows a step trains, and how a batch is cut into micro-batches."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from luthier.examples.store import Encoded, Split
from luthier.model.layout import input_length


@dataclass(frozen=True)
class Batch:
    """The rows of one optimiser step, cut into micro-batches."""

    step: int
    rows: list[int]
    micro_batches: list[list[Encoded]]
    target_tokens: int
    real_tokens: int
    """Tokens of all rows, each counted once per row; pads and repeats never."""


def epoch_order(rows: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch: a pure function of its arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(rows)


def rows_of_step(step: int, *, rows: int, batch_size: int, seed: int) -> list[int]:
    """Return the row numbers of a step (from 0); epochs follow each other without a gap."""
    first = step * batch_size
    epochs = range(first // rows, (first + batch_size - 1) // rows + 1)
    orders = {epoch: epoch_order(rows, seed=seed, epoch=epoch) for epoch in epochs}
    return [int(orders[i // rows][i % rows]) for i in range(first, first + batch_size)]


def micro_batches(rows: Sequence[Encoded], *, tokens: int, share: bool) -> list[list[Encoded]]:
    """Cut rows into groups that compute at most `tokens` tokens (a longer row stands alone).

    With `share`, rows that begin alike are neighbours, and a prefix counts once per group.
    """
    ordered = sorted(rows, key=lambda row: row.ids) if share else sorted(rows, key=lambda row: len(row.ids))
    groups: list[list[Encoded]] = []
    used = 0
    for row in ordered:
        length = input_length(row)
        shared = _common(groups[-1][-1].ids, row.ids) if groups and share else 0
        cost = max(length - shared, 1)
        if groups and used + cost <= tokens:
            groups[-1].append(row)
            used += cost
        else:
            groups.append([row])
            used = length
    return groups


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Batches:
    """The batches of a run; the next one is prepared while the present one trains."""

    def __init__(self, split: Split, *, batch_size: int, micro_batch_tokens: int, share: bool, seed: int) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.micro_batch_tokens = micro_batch_tokens
        self.share = share
        self.seed = seed

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, whatever was asked before."""
        numbers = rows_of_step(step, rows=len(self.split), batch_size=self.batch_size, seed=self.seed)
        rows = [self.split.encoded(i) for i in numbers]
        groups = micro_batches(rows, tokens=self.micro_batch_tokens, share=self.share)
        targets = sum(sum(row.targets[1:]) for row in rows)
        return Batch(step, numbers, groups, targets, sum(len(row.ids) for row in rows))

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of steps [first, last)."""
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self.batch, first) if first < last else None
            for step in range(first, last):
                batch = following.result()
                following = pool.submit(self.batch, step + 1) if step + 1 < last else None
                yield batch
