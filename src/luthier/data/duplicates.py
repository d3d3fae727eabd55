"""Near-duplicates: rows whose own words are nearly the same, found by MinHash and confirmed by comparing them.

Long runs of text that many rows share (an instruction, a list of labels) are not their own: without leaving them out,
all rows of a set with a long instruction would be near-duplicates.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable

import numpy as np
from datasketch import MinHash

from luthier.examples.example import Example

WIDTH = 5
"""Characters of a shingle."""
PERMUTATIONS = 64
RUN = 24
"""Characters of a run that counts as common where many rows have it; long enough that no word or phrase is one."""
COMMON_SHARE = 0.2
"""A run in more than this share of rows is common, not any row's own."""
RECALL = 0.999
"""Chance that a pair just at the threshold is looked at."""
COMPARED = 8
"""Most rows of one bucket that a row is compared with."""
CHUNK = 1 << 14
SPACES = re.compile(r"\s+")
PERMUTED = MinHash(PERMUTATIONS, seed=1).permutations


def own_text(example: Example) -> str:
    """Return what a row says: prompt and answer, without system messages."""
    if example.segments:
        return "\n".join(example.texts)
    parts = [message for message in example.messages if message.role not in ("system", "developer")]
    calls = [json.dumps(call, sort_keys=True, default=str) for message in parts for call in message.tool_calls]
    return "\n".join([message.content for message in parts] + calls)


class Shingler:
    """Cuts texts into hashed shingles, without the runs that are common to many rows."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Learn from the first rows what is common."""
        different = [np.unique(_hashes(_points(text), RUN)) for text in dict.fromkeys(texts)]
        runs, counts = np.unique(np.concatenate([*different, _NONE]), return_counts=True)
        most = max(COMMON_SHARE * len(different), min(10, len(different) / 2))
        self._common = runs[counts > most]

    def shingles(self, text: str) -> np.ndarray:
        """Return the text's own shingles as sorted 32-bit hashes; where it has none, one hash of the whole text."""
        points = _points(text)
        own = points[~self._is_common(points)]
        return np.unique(_hashes(own, WIDTH) if len(own) >= WIDTH else _hashes(points, len(points)))

    def _is_common(self, points: np.ndarray) -> np.ndarray:
        """Return for each character whether a common run covers it."""
        starts = np.flatnonzero(np.isin(_hashes(points, RUN), self._common))
        edges = np.zeros(len(points) + 1, dtype=np.int64)
        np.add.at(edges, starts, 1)
        np.add.at(edges, starts + RUN, -1)
        return np.cumsum(edges[:-1]) > 0

    def signature(self, text: str) -> np.ndarray:
        """Return the MinHash signature: 64 numbers of 32 bits."""
        sketch = MinHash(hashfunc=int, permutations=PERMUTED, num_perm=PERMUTATIONS, scheme="affine32")
        hashes = self.shingles(text)
        for start in range(0, len(hashes), CHUNK):
            sketch.update_batch(hashes[start : start + CHUNK])
        return sketch.hashvalues.astype(np.uint32)


class Groups:
    """Disjoint groups of rows, joined pair by pair."""

    def __init__(self, rows: int) -> None:
        self._parent = list(range(rows))

    def root(self, row: int) -> int:
        """Return the first row of the group."""
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        """Make two groups one."""
        first, second = sorted((self.root(one), self.root(other)))
        self._parent[second] = first

    def roots(self) -> np.ndarray:
        """Return each row's group, named by its first row."""
        return np.array([self.root(row) for row in range(len(self._parent))], dtype=np.int64)

    def copy(self) -> "Groups":
        """Return groups that can be joined further on their own."""
        other = Groups(0)
        other._parent = list(self._parent)
        return other


def near_duplicates(signatures: np.ndarray, shingles_of: Callable[[int], np.ndarray], threshold: float) -> Groups:
    """Group the rows whose shingles overlap (Jaccard) by the threshold or more."""
    groups = Groups(len(signatures))
    remembered = functools.lru_cache(maxsize=256)(shingles_of)
    width = _band_width(threshold)
    for start in range(0, PERMUTATIONS - width + 1, width):
        for bucket in _buckets(signatures[:, start : start + width]):
            _join_bucket(groups, bucket, signatures, remembered, threshold)
    return groups


def join_equal(groups: Groups, keys: np.ndarray, most: int) -> None:
    """Join rows with an equal key other than 0; a key of more than `most` rows says nothing and joins none."""
    for bucket in _buckets(keys[:, None]):
        if keys[bucket[0]] and len(bucket) <= most:
            for row in bucket[1:]:
                groups.join(int(bucket[0]), int(row))


def _join_bucket(
    groups: Groups,
    bucket: np.ndarray,
    signatures: np.ndarray,
    shingles_of: Callable[[int], np.ndarray],
    threshold: float,
) -> None:
    leaders: list[int] = []
    for row in map(int, bucket):
        if any(groups.root(row) == groups.root(leader) for leader in leaders):
            continue
        close = [leader for leader in leaders if _estimate(signatures, row, leader) > threshold - 0.2]
        twin = next((leader for leader in close if _overlap(shingles_of(row), shingles_of(leader)) >= threshold), None)
        if twin is not None:
            groups.join(twin, row)
        elif len(leaders) < COMPARED:
            leaders.append(row)


def _band_width(threshold: float) -> int:
    """Return the widest band that still finds a pair at the threshold almost surely."""

    def found(width: int) -> float:
        return 1 - (1 - threshold**width) ** (PERMUTATIONS // width)

    return max((width for width in range(1, PERMUTATIONS + 1) if found(width) >= RECALL), default=1)


def _buckets(columns: np.ndarray) -> list[np.ndarray]:
    """Return the groups of two or more rows that are equal in these columns, each in row order."""
    if not len(columns):
        return []
    _, bucket_of, sizes = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(bucket_of.ravel(), kind="stable")
    return [bucket for bucket in np.split(order, np.cumsum(sizes)[:-1]) if len(bucket) > 1]


def _estimate(signatures: np.ndarray, one: int, other: int) -> float:
    return float(np.mean(signatures[one] == signatures[other]))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


_NONE = np.zeros(0, dtype=np.uint32)
_BASE = 0x9E3779B97F4A7C15


def _points(text: str) -> np.ndarray:
    """Return the text's characters as numbers; case and kinds of space do not count."""
    plain = SPACES.sub(" ", text.casefold()).strip().ljust(WIDTH)
    return np.frombuffer(plain.encode("utf-32-le"), dtype=np.uint32)


def _hashes(points: np.ndarray, width: int) -> np.ndarray:
    """Return a 32-bit hash for each run of `width` characters, in order.

    A polynomial modulo 2^64 by prefix sums: the cost does not depend on the width.
    """
    if len(points) < width:
        return _NONE
    powers, inverse = (_powers(base, len(points)) for base in (_BASE, pow(_BASE, -1, 1 << 64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum((points + np.uint64(1)) * powers, dtype=np.uint64)])
    runs = (sums[width:] - sums[:-width]) * inverse[: len(points) - width + 1]
    return ((runs ^ (runs >> np.uint64(29))) * np.uint64(_BASE) >> np.uint64(32)).astype(np.uint32)


def _powers(base: int, count: int) -> np.ndarray:
    return np.cumprod(np.full(count, base, dtype=np.uint64), dtype=np.uint64)
