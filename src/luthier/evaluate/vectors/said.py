"""What one system says of the held-out texts: how alike they are, which is nearest, and the scores of that."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from luthier.evaluate.vectors.exam import VectorExam
from luthier.score import heads, retrieval
from luthier.score.names import MetricName
from luthier.score.scores import FloatArray, Scores

WORD = r"(?u)\b\w+\b"
NEVER = -2.0
"""Less than any cosine."""


@dataclass(frozen=True)
class Said:
    """One of the two, by what the rows tell."""

    system: str
    alike: FloatArray
    """The cosine of each row's texts, (N,); of triplets with the match."""
    apart: FloatArray | None
    """Of triplets the cosine with the negative, (N,)."""
    ranks: FloatArray | None
    """Where each row's match stands among the candidates, from 1, (N,); None of scored pairs."""
    nearest: list[int]
    """The place of the candidate that each row's first text is nearest to."""
    seconds: float
    """Per text."""

    def texts(self, exam: VectorExam) -> list[str]:
        """Return what was said in words: the nearest text, or how alike two are."""
        if self.ranks is None:
            return [f"{value:.3f}" for value in self.alike]
        return [exam.texts[place] for place in self.nearest]


def said_by_vectors(system: str, vectors: FloatArray, exam: VectorExam, seconds: float) -> Said:
    """Return what the texts' vectors say, (T, D) in the order of the exam's texts."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    first, second, *others = (unit[list(places)] for places in zip(*exam.places, strict=True))
    alike = (first * second).sum(axis=1)
    apart = (first * others[0]).sum(axis=1) if others else None
    if exam.kind == "likeness":
        return Said(system, alike, apart, None, [], seconds)
    ranks, nearest = _ranked(unit, exam)
    return Said(system, alike, apart, ranks, nearest, seconds)


def by_words(exam: VectorExam) -> FloatArray:
    """Return vectors of the texts by the words that they share, rare ones weighing more (TF-IDF), (T, D)."""
    counter = TfidfVectorizer(sublinear_tf=True, token_pattern=WORD)
    try:
        counter.fit([*exam.known, *exam.texts])
    except ValueError:
        # No text has a word.
        return np.zeros((len(exam.texts), 1))
    return np.asarray(counter.transform(exam.texts).toarray(), dtype=np.float64)


def scores_of(said: Said, exam: VectorExam, metrics: tuple[MetricName, ...]) -> dict[str, Scores]:
    """Return the scores of a system."""
    table: dict[str, Callable[[], Scores]] = {}
    if said.ranks is None:
        table = {
            "spearman": lambda: heads.spearman(said.alike, exam.scores),
            "pearson": lambda: heads.pearson(said.alike, exam.scores),
        }
    else:
        ranks = said.ranks
        table = {
            "accuracy_at_1": lambda: retrieval.accuracy_at_1(ranks),
            "mrr_at_10": lambda: retrieval.mrr_at_10(ranks),
            "ndcg_at_10": lambda: retrieval.ndcg_at_10(ranks),
        }
    if said.apart is not None:
        apart = said.apart
        table["triplet_accuracy"] = lambda: retrieval.triplet_accuracy(said.alike, apart)
    return {metric: table[metric]() for metric in metrics}


def _ranked(unit: FloatArray, exam: VectorExam) -> tuple[FloatArray, list[int]]:
    """Return each match's rank, and the nearest candidate; other matches of the same text do not count against it."""
    candidates = np.array(exam.candidates)
    column = {place: number for number, place in enumerate(exam.candidates)}
    ranks, nearest = [], []
    for first, match, *_ in exam.places:
        alike = unit[candidates] @ unit[first]
        if first in column and first != match:
            # A text may stand on both sides: it is not looked for among its own matches.
            alike[column[first]] = NEVER
        nearest.append(exam.candidates[int(np.argmax(alike))])
        alike[[column[place] for place in exam.matches[first] if place != match]] = NEVER
        ranks.append(retrieval.rank_of(alike, column[match]))
    return np.array(ranks, dtype=np.float64), nearest
