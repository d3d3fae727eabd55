"""Layout: several rows as one flat sequence in which every shared prefix stands once.

Rows are sorted and become a tree of token runs (a trie). Depth-first order makes the descendants of a run
contiguous, so attention has one rule: position q sees position k exactly when k <= q < end_of_subtree(k).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.examples.store import Encoded

MIN_SHARED_TOKENS = 8
"""Shorter common prefixes cost more in bookkeeping than they save."""
TILE_TOKENS = 64
"""Query positions handled by one attention call."""


@dataclass(frozen=True)
class Run:
    """A run of tokens that stands once; `subtree_end` is where its descendants end."""

    start: int
    end: int
    subtree_end: int
    parent: int
    """Index of the run before it in its rows; -1 at the root."""


@dataclass(frozen=True)
class Tile:
    """Queries [start, end), and the ranges of keys before them that any of them sees."""

    start: int
    end: int
    before: tuple[tuple[int, int], ...]

    @property
    def before_count(self) -> int:
        """How many keys stand before the queries' own."""
        return sum(end - start for start, end in self.before)


@dataclass(frozen=True)
class Layout:
    """A micro-batch as one flat sequence of N positions with M places of loss."""

    ids: np.ndarray
    """Token ids, int64 (N,)."""
    positions: np.ndarray
    """Position of each token in its row, int64 (N,)."""
    subtree_end: np.ndarray
    """For each key the first position that no longer sees it, int64 (N,)."""
    tiles: tuple[Tile, ...]
    hidden_index: np.ndarray
    """Positions whose hidden state predicts a target; a shared one may stand several times, int64 (M,)."""
    target_ids: np.ndarray
    """The tokens to predict, int64 (M,)."""
    order: tuple[int, ...]
    """The rows, by their places as given, in the order in which their targets follow each other."""
    rows: int
    real_tokens: int
    """Tokens of all rows, each counted once per row."""

    @property
    def length(self) -> int:
        """N."""
        return len(self.ids)


def input_length(row: Encoded) -> int:
    """Return how many leading tokens a row must compute: those before its last target."""
    return max((index for index, target in enumerate(row.targets) if target), default=0)


def build_layout(rows: Sequence[Encoded], *, share: bool = True) -> Layout:
    """Lay rows out flat; with `share`, prefixes that several rows begin with stand once."""
    arrays = [np.asarray(row.ids, dtype=np.int64) for row in rows]
    lengths = [input_length(row) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: rows[i].ids) if share else list(range(len(rows)))
    builder = _Builder([arrays[i][: lengths[i]] for i in order])
    builder.grow(0, len(order), 0, -1, share=share)
    flat = builder.finish()

    hidden, targets = [], []
    for place, i in enumerate(order):
        at = np.flatnonzero(np.asarray(rows[i].targets))
        at = at[at > 0]
        hidden.append(builder.flat_index(place)[at - 1])
        targets.append(arrays[i][at])
    return Layout(
        ids=flat.ids,
        positions=flat.positions,
        subtree_end=flat.subtree_end,
        tiles=tuple(_tiles(builder.runs)),
        hidden_index=np.concatenate(hidden),
        target_ids=np.concatenate(targets),
        order=tuple(order),
        rows=len(rows),
        real_tokens=sum(len(row.ids) for row in rows),
    )


@dataclass(frozen=True)
class _Flat:
    ids: np.ndarray
    positions: np.ndarray
    subtree_end: np.ndarray


class _Builder:
    """Grow the tree of runs over sorted rows, depth first."""

    def __init__(self, rows: list[np.ndarray]) -> None:
        self.rows = rows
        self.common = [0] + [_common_prefix(a, b) for a, b in zip(rows, rows[1:], strict=False)]
        self.runs: list[Run] = []
        self.pieces: list[tuple[np.ndarray, int]] = []
        self.leaf: list[int] = [-1] * len(rows)
        self.length = 0

    def grow(self, first: int, last: int, depth: int, parent: int, *, share: bool) -> None:
        """Add the runs of rows [first, last) that already share `depth` tokens under `parent`."""
        if last - first == 1:
            self.leaf[first] = self._add(self.rows[first][depth:], depth, parent)
            return
        shared = min(self.common[first + 1 : last]) if share else 0
        if shared - depth >= MIN_SHARED_TOKENS:
            run = self._add(self.rows[first][depth:shared], depth, parent)
            self.grow(first, last, shared, run, share=share)
            self.runs[run] = Run(self.runs[run].start, self.runs[run].end, self.length, parent)
            return
        cuts = [k for k in range(first + 1, last) if not share or self.common[k] < depth + MIN_SHARED_TOKENS]
        for begin, end in zip([first, *cuts], [*cuts, last], strict=True):
            self.grow(begin, end, depth, parent, share=share)

    def _add(self, ids: np.ndarray, depth: int, parent: int) -> int:
        if not len(ids):
            return parent
        start, self.length = self.length, self.length + len(ids)
        self.runs.append(Run(start, self.length, self.length, parent))
        self.pieces.append((ids, depth))
        return len(self.runs) - 1

    def finish(self) -> _Flat:
        """Return the flat arrays."""
        ends = [np.full(run.end - run.start, run.subtree_end) for run in self.runs]
        return _Flat(
            ids=np.concatenate([ids for ids, _ in self.pieces]),
            positions=np.concatenate([np.arange(depth, depth + len(ids)) for ids, depth in self.pieces]),
            subtree_end=np.concatenate(ends),
        )

    def flat_index(self, place: int) -> np.ndarray:
        """Return where each input token of a row stands in the flat sequence."""
        chain, run = [], self.leaf[place]
        while run >= 0:
            chain.append(np.arange(self.runs[run].start, self.runs[run].end))
            run = self.runs[run].parent
        return np.concatenate(chain[::-1]) if chain else np.zeros(0, dtype=np.int64)


def _common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def _tiles(runs: list[Run]) -> list[Tile]:
    """Cut the flat sequence into query tiles: small sibling runs together, long runs in pieces."""
    tiles: list[Tile] = []
    group: list[int] = []

    def flush() -> None:
        if group:
            tiles.append(_tile(runs, group))
            group.clear()

    for index, run in enumerate(runs):
        if run.end - run.start > TILE_TOKENS:
            flush()
            tiles += _pieces(runs, index)
            continue
        if group and (run.end - runs[group[0]].start > TILE_TOKENS or run.parent != runs[group[0]].parent):
            flush()
        group.append(index)
    flush()
    return tiles


def _ancestors(runs: list[Run], parent: int) -> list[tuple[int, int]]:
    ranges = []
    while parent >= 0:
        ranges.append((runs[parent].start, runs[parent].end))
        parent = runs[parent].parent
    return ranges[::-1]


def _tile(runs: list[Run], group: list[int]) -> Tile:
    return Tile(runs[group[0]].start, runs[group[-1]].end, _joined(_ancestors(runs, runs[group[0]].parent)))


def _pieces(runs: list[Run], index: int) -> list[Tile]:
    run = runs[index]
    ancestors = _ancestors(runs, run.parent)
    starts = range(run.start, run.end, TILE_TOKENS)
    ends = [*starts[1:], run.end]
    return [Tile(a, b, _joined([*ancestors, (run.start, a)])) for a, b in zip(starts, ends, strict=True)]


def _joined(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join ranges that touch; empty ones vanish."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and start == joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        elif end > start:
            joined.append((start, end))
    return tuple(joined)
