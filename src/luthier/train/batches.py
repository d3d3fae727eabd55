"""Which rows a step trains, which ones watch it, and how they are cut into micro-batches."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from luthier.examples.store import Encoded, Noise
from luthier.model.layout import input_length

WATCHED_ROWS = 256
"""Validation rows priced at most while training, so that watching stays cheap beside it."""


@dataclass(frozen=True)
class Batch:
    """The rows of one optimiser step, cut into micro-batches."""

    step: int
    rows: list[int]
    micro_batches: list[list[Encoded]]
    real_tokens: int
    """Tokens of all rows, each counted once per row and answer; pads and repeats never."""


def epoch_order(rows: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch: a pure function of its arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(rows)


def rows_of_step(step: int, *, rows: int, batch_size: int, seed: int) -> list[int]:
    """Return the row numbers of a step (from 0); epochs follow each other without a gap."""
    first = step * batch_size
    epochs = range(first // rows, (first + batch_size - 1) // rows + 1)
    orders = {epoch: epoch_order(rows, seed=seed, epoch=epoch) for epoch in epochs}
    return [int(orders[i // rows][i % rows]) for i in range(first, first + batch_size)]


class Rows(Protocol):
    """Tokenised rows by number."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def encoded(self, index: int, /) -> Encoded:
        """Return the tokens of one row."""
        ...


@dataclass(frozen=True)
class Cut:
    """How rows are cut into micro-batches."""

    tokens: int
    """The most that are computed at once; a longer row stands alone."""
    share: bool
    """Rows that begin alike are neighbours, and a prefix counts once per micro-batch."""

    def __call__(self, rows: Sequence[Encoded]) -> list[list[Encoded]]:
        """Return the micro-batches."""
        return [[rows[i] for i in places] for places in self.places(rows)]

    def places(self, rows: Sequence[Encoded]) -> list[list[int]]:
        """Return the micro-batches as places in `rows`; the two answers of a pair stay together."""
        order = sorted(range(len(rows)), key=lambda i: rows[i].ids if self.share else len(rows[i].ids))
        groups: list[list[int]] = []
        used = 0
        for i in order:
            length = self._length(rows[i])
            shared = _common(rows[groups[-1][-1]].ids, rows[i].ids) if groups and self.share else 0
            cost = max(length - shared, 1)
            if groups and used + cost <= self.tokens:
                groups[-1].append(i)
                used += cost
            else:
                groups.append([i])
                used = length
        return groups

    def _length(self, row: Encoded) -> int:
        if row.truth:
            return len(row.ids)  # a head reads each text whole, wherever its loss lies
        total = sum(input_length(answer) for answer in row.answers)
        shared = _common(row.ids, row.rejected.ids) if row.rejected and self.share else 0
        return max(total - shared, 1)


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Batches:
    """The batches of a run; the next one is prepared while the present one trains."""

    def __init__(self, rows: Rows, cut: Cut, *, batch_size: int, seed: int, noise_alpha: float | None = None) -> None:
        self.rows = rows
        self.cut = cut
        self.noise_alpha = noise_alpha
        self.batch_size = min(batch_size, len(rows))
        self.seed = seed

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, whatever was asked before."""
        numbers = rows_of_step(step, rows=len(self.rows), batch_size=self.batch_size, seed=self.seed)
        rows = [self._noisy(self.rows.encoded(i), step, place) for place, i in enumerate(numbers)]
        real_tokens = sum(len(answer.ids) for row in rows for answer in row.answers)
        return Batch(step, numbers, self.cut(rows), real_tokens)

    def _noisy(self, row: Encoded, step: int, place: int) -> Encoded:
        """Return a row of a step with noise of its own, as a pure function of seed, step and place."""
        if self.noise_alpha is None:
            return row
        drawn = np.random.SeedSequence([self.seed, step, place]).generate_state(2, np.uint32)
        own, other = (Noise(int(seed), self.noise_alpha) for seed in drawn)
        rejected = replace(row.rejected, noise=other) if row.rejected else None
        return replace(row, noise=own, rejected=rejected)

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of steps [first, last)."""
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self.batch, first) if first < last else None
            for step in range(first, last):
                batch = following.result()
                following = pool.submit(self.batch, step + 1) if step + 1 < last else None
                yield batch


class Watch:
    """The validation rows in micro-batches: the first ones are priced often, all of them now and then."""

    def __init__(self, rows: Rows, cut: Cut, *, together: int | None = None) -> None:
        """Watch rows; `together` is how many are priced as one batch, where their loss is no sum over rows."""
        self.rows = rows
        self.cut = cut
        self.together = together
        self.first = self._groups(0)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.first)

    def rest(self) -> Iterator[list[Encoded]]:
        """Yield the micro-batches after the first ones, read from disk as they come."""
        for start in range(WATCHED_ROWS, len(self.rows), WATCHED_ROWS):
            yield from self._groups(start)

    def _groups(self, start: int) -> list[list[Encoded]]:
        last = min(start + WATCHED_ROWS, len(self.rows))
        rows = [self.rows.encoded(i) for i in range(start, last)]
        if self.together is not None:
            return [rows[at : at + self.together] for at in range(0, len(rows), self.together)]
        return self.cut(rows)
