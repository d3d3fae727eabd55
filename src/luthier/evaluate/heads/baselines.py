"""What is reached without tuning: the usual answer, and the untuned model's vectors with little on top."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
import torch

from luthier.evaluate import frozen
from luthier.evaluate.heads.exam import HeadExam, labels_of
from luthier.evaluate.heads.said import Said
from luthier.evaluate.nearest import Space, Vectors
from luthier.evaluate.spec import BaselineName
from luthier.examples.example import Example
from luthier.examples.spans import OUTSIDE
from luthier.examples.store import Encoded
from luthier.model.embed import embed, embed_words
from luthier.model.linear import number_weights
from luthier.model.reader import Reader
from luthier.score.heads import one_hot
from luthier.score.scores import FloatArray

LEARNT_WORDS = 20_000
"""Words that a linear head on frozen states learns from at most: the first ones."""
NEEDS_VECTORS: tuple[BaselineName, ...] = ("linear-head", "nearest")


class Frozen:
    """The untuned model's vectors of training and test rows, computed once."""

    def __init__(self, model: torch.nn.Module | None, exam: HeadExam, reader: Reader, *, seed: int) -> None:
        self.model, self.exam, self.reader, self.seed = model, exam, reader, seed
        self._vectors: tuple[Vectors, Vectors] | None = None
        self._seconds = 0.0

    def say(self, name: BaselineName) -> Said:
        """Return what a baseline says of the test rows."""
        started = perf_counter()
        says: dict[str, Callable[[BaselineName], Said]] = {
            "label": self._labels,
            "labels": self._labels,
            "score": self._scores,
            "spans": self._tags,
        }
        said = says[self.exam.kind](name)
        seconds = (perf_counter() - started) / len(self.exam.rows)
        return Said(said.system, said.probabilities, said.scores, said.tags, sure=said.sure, seconds=seconds)

    def vectors(self) -> tuple[Vectors, Vectors]:
        """Return the mean states of the training rows and of the test rows."""
        if self._vectors is None:
            train, test = self.exam.train_rows, self.exam.rows
            both = (
                embed(self.model, [row.ids for row in (*train, *test)]) if self.model else np.zeros((0, 0), np.float32)
            )
            self._vectors = both[: len(train)], both[len(train) :]
        return self._vectors

    def _labels(self, name: BaselineName) -> Said:
        exam, known = self.exam, self.exam.card.labels
        had = one_hot([labels_of(example) for example in exam.train], known)
        if name == "majority":
            share = (had.sum(axis=0) + 1) / (len(had) + (len(known) if exam.kind == "label" else 2))
            return Said(name, np.tile(share, (len(exam.rows), 1)))
        train, test = self.vectors()
        if name == "nearest":
            near = Space.of(train).ranked(test, min(frozen.NEIGHBOURS, len(train)))
            # On a tie the nearest one decides; votes of so few rows are no probability.
            votes = had[near].mean(axis=1) + 1e-3 * had[near[:, 0]]
            return Said(name, votes, sure=False)
        if exam.kind == "label":
            labels = [labels_of(example)[0] for example in exam.train]
            return Said(name, frozen.linear_probabilities(train, labels, test, known=known, seed=self.seed))
        return Said(name, self._each_label(had, train, test))

    def _each_label(self, had: FloatArray, train: Vectors, test: Vectors) -> FloatArray:
        columns = []
        for column in had.T:
            words = ["yes" if is_there else "no" for is_there in column]
            said = frozen.linear_probabilities(train, words, test, known=("no", "yes"), seed=self.seed)
            columns.append(said[:, 1])
        return np.stack(columns, axis=1)

    def _scores(self, name: BaselineName) -> Said:
        known = np.array([example.score or 0.0 for example in self.exam.train])
        if name == "majority":
            return Said(name, scores=np.full(len(self.exam.rows), known.mean()))
        train, test = self.vectors()
        if name == "nearest":
            near = Space.of(train).ranked(test, min(frozen.NEIGHBOURS, len(train)))
            return Said(name, scores=known[near].mean(axis=1))
        return Said(name, scores=_ridge(train, known, test))

    def _tags(self, name: BaselineName) -> Said:
        exam = self.exam
        if name == "majority":
            usual = _usual_tags(self._words(exam.train, exam.train_rows), [row.tags for row in exam.train_rows])
            words = self._words(exam.examples, exam.rows)
            return Said(name, tags=[[usual.get(word, OUTSIDE) for word in of_row] for of_row in words])
        if self.model is None:
            raise TypeError("a head on frozen states needs the model")
        learnt = _first(exam.train_rows, LEARNT_WORDS)
        train, test = (
            embed_words(self.model, [row.ids for row in rows], [row.words for row in rows])
            for rows in (learnt, exam.rows)
        )
        tags = [tag for row in learnt for tag in row.tags]
        said = frozen.linear_head(np.concatenate(train), tags, np.concatenate(test), seed=self.seed)
        ends = np.cumsum([len(row.words) for row in exam.rows])
        starts = [0, *ends[:-1].tolist()]
        return Said(name, tags=[said[start:end] for start, end in zip(starts, ends.tolist(), strict=True)])

    def _words(self, examples: Sequence[Example], rows: Sequence[Encoded]) -> list[list[str]]:
        readings = [self.reader.read(example.text) for example in examples]
        return [
            [example.text[start:end] for start, end in reading.words[: len(row.words)]]
            for example, reading, row in zip(examples, readings, rows, strict=True)
        ]


def _usual_tags(words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the tag that each word has most often."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for of_row, its in zip(words, tags, strict=True):
        for word, tag in zip(of_row, its, strict=True):
            counts[word][tag] += 1
    return {word: found.most_common(1)[0][0] for word, found in counts.items()}


def _first(rows: Sequence[Encoded], most: int) -> list[Encoded]:
    taken, words = [], 0
    for row in rows:
        taken.append(row)
        words += len(row.words)
        if words >= most:
            break
    return taken


def _ridge(train: Vectors, known: FloatArray, test: Vectors) -> FloatArray:
    weights, bias = number_weights(train, known, centred=True)
    return np.asarray(test @ weights[0] + bias[0], dtype=np.float64)
