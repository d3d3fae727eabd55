"""The held-out texts, what is right of each, and what the training rows hold for baselines."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from luthier.core.artifacts import HeadKind, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Emit
from luthier.evaluate.exam import held_out
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.example import NO_ANSWER, Example
from luthier.examples.store import Encoded, Split
from luthier.model.headcard import HeadCard
from luthier.score.heads import one_hot
from luthier.score.scores import FloatArray

LEARNT_ROWS = 4000
"""Training rows that baselines learn from at most; they are drawn by the seed."""


@dataclass(frozen=True)
class HeadExam:
    """What every system is asked, and judged by."""

    card: HeadCard
    rows: list[Encoded]
    examples: list[Example]
    train_rows: list[Encoded]
    train: list[Example]

    @property
    def kind(self) -> HeadKind:
        """What is to be said of each text."""
        return self.card.kind

    @property
    def asked(self) -> list[int]:
        """All rows are asked."""
        return list(range(len(self.rows)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that part the rows; empty where a row has none, or several."""
        return self.card.labels if self.kind == "label" else ()

    def reference(self, row: int) -> str:
        """The right answer in words."""
        if self.kind == "quote":
            return " | ".join(self.examples[row].accepted) or NO_ANSWER
        return self.examples[row].answer

    @property
    def accepted(self) -> list[tuple[str, ...]]:
        """All right answers to each question; none where the text does not say it."""
        return [example.accepted for example in self.examples]

    @cached_property
    def scores(self) -> FloatArray:
        """The right numbers, (N,)."""
        return np.array([example.score or 0.0 for example in self.examples])

    @cached_property
    def has(self) -> FloatArray:
        """A 1 for each label that a row has, (N, K)."""
        return one_hot([labels_of(example) for example in self.examples], self.card.labels)

    @cached_property
    def tags(self) -> list[str]:
        """The tags of each row's words, as one line."""
        return [" ".join(tag.replace(" ", "_") for tag in row.tags) or "O" for row in self.rows]


def labels_of(example: Example) -> tuple[str, ...]:
    """Return the labels of a text, one or several."""
    return example.labels if example.labels is not None else (example.label or "",)


def set_head_exam(spec: EvaluateSpec, given: Prepared, card: HeadCard, emit: Emit, *, seed: int) -> HeadExam:
    """Draw the test rows, and the training rows that baselines learn from."""
    split, train = held_out(given, emit), Split(given.split("train"))
    drawn, learnt = _drawn(split, spec.max_rows, seed), _drawn(train, LEARNT_ROWS, seed)
    if not drawn:
        raise DataError("no test row is left", where={"folder": given.folder})
    return HeadExam(
        card=card,
        rows=[split.encoded(row) for row in drawn],
        examples=[split.example(row) for row in drawn],
        train_rows=[train.encoded(row) for row in learnt],
        train=[train.example(row) for row in learnt],
    )


def _drawn(split: Split, most: int, seed: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).permutation(len(split))[:most].tolist()
    return sorted(drawn)
