"""The held-out rows as an exam of vectors: which texts are compared, and what is right."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from luthier.core.artifacts import HeadKind, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Emit
from luthier.evaluate.exam import held_out
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.model.headcard import HeadCard
from luthier.score.scores import FloatArray

LEARNT_ROWS = 4000
"""Training rows whose words are counted at most: the first ones."""


@dataclass(frozen=True)
class VectorExam:
    """Every different text once, and where each row's texts are among them."""

    card: HeadCard
    examples: list[Example]
    texts: list[str]
    """All different texts of the rows."""
    tokens: list[Encoded]
    """Their tokens."""
    places: list[tuple[int, ...]]
    """Where in `texts` each row's own are: the first, its match or what it is compared with, and the negative."""
    known: list[str]
    """Texts of training rows."""

    @property
    def kind(self) -> HeadKind:
        """What the rows tell."""
        return self.card.kind

    @cached_property
    def scores(self) -> FloatArray:
        """How alike the rows say that their texts are, (N,)."""
        return np.array([example.score or 0.0 for example in self.examples])

    @cached_property
    def candidates(self) -> list[int]:
        """The texts among which each row's match is looked for: all rows' matches, and their negatives."""
        return sorted({place for places in self.places for place in places[1:]})

    @cached_property
    def matches(self) -> dict[int, set[int]]:
        """All texts that belong to a first text, by its place."""
        found: dict[int, set[int]] = {}
        for first, match, *_ in self.places:
            found.setdefault(first, set()).add(match)
        return found


def set_vector_exam(spec: EvaluateSpec, given: Prepared, card: HeadCard, emit: Emit, *, seed: int) -> VectorExam:
    """Draw the test rows and lay out their texts."""
    split, train = held_out(given, emit), Split(given.split("train"))
    drawn = sorted(np.random.default_rng(seed).permutation(len(split))[: spec.max_rows].tolist())
    if not drawn:
        raise DataError("no test row is left", where={"folder": given.folder})
    examples = [split.example(row) for row in drawn]
    tokens: dict[str, Encoded] = {}
    for row, example in zip(drawn, examples, strict=True):
        tokens |= zip(example.texts, split.encoded(row).answers, strict=True)
    places = {text: place for place, text in enumerate(tokens)}
    known = [train.example(row) for row in range(min(len(train), LEARNT_ROWS))]
    return VectorExam(
        card=card,
        examples=examples,
        texts=list(tokens),
        tokens=list(tokens.values()),
        places=[tuple(places[text] for text in example.texts) for example in examples],
        known=[text for example in known for text in example.texts],
    )
