"""Near texts: by what a frozen model's states say, by shared words, or by both."""

from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
FUSION = 60
"""The constant of reciprocal rank fusion (Cormack et al. 2009)."""


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors of known texts, centred: the states of a causal model all lean one way."""

    mean_D: Vectors
    known_ND: Vectors

    @classmethod
    def of(cls, vectors: Vectors) -> "Space":
        """Make it from the known texts' vectors, (N, D)."""
        mean = vectors.mean(axis=0)
        return cls(mean, _unit(vectors - mean))

    def placed(self, vectors: Vectors) -> Vectors:
        """Return vectors of other texts in this space, (M, D), of unit length."""
        return _unit(vectors - self.mean_D)

    def ranked(self, vectors: Vectors, count: int) -> NDArray[np.int64]:
        """Return the `count` nearest known texts of each, the nearest first, (M, count)."""
        similarity = self.placed(vectors) @ self.known_ND.T
        return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


class Words:
    """Known texts by their words: BM25 (Robertson and Zaragoza 2009), by the library bm25s."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._count = len(texts)
        self._index = bm25s.BM25()
        self._index.index(_tokens(texts), show_progress=False)

    def ranked(self, queries: Sequence[str], count: int) -> list[list[int]]:
        """Return the nearest known texts of each query, the nearest first; none that shares no word."""
        places, scores = self._index.retrieve(_tokens(queries), k=min(count, self._count), show_progress=False)
        return [
            [int(place) for place, score in zip(*row, strict=True) if score > 0]
            for row in zip(places, scores, strict=True)
        ]


def fused(rankings: Sequence[Sequence[int]], count: int) -> list[int]:
    """Return the best of several rankings together, by reciprocal rank fusion."""
    points: dict[int, float] = {}
    for ranking in rankings:
        for rank, place in enumerate(ranking, 1):
            points[place] = points.get(place, 0.0) + 1 / (FUSION + rank)
    return sorted(points, key=lambda place: (-points[place], place))[:count]


def _tokens(texts: Sequence[str]) -> list[list[str]]:
    tokenised = bm25s.tokenize(list(texts), stopwords=None, show_progress=False, return_ids=False)
    # A text without a word still is a text.
    return [words or [""] for words in tokenised]


def _unit(vectors: Vectors) -> Vectors:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
