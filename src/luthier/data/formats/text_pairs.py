"""Texts that belong together, in pairs or with one that does not: what vectors of texts are trained on."""

from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.labelled import Labelled
from luthier.data.formats.shape import Sample, compared, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example

PLAIN = ("anchor", "positive")
ANCHORS = ("anchor", "query", "question")
POSITIVES = ("positive", "pos", "answer", "passage", "document")
NEGATIVES = ("negative", "neg", "hard_negative")


@dataclass(frozen=True)
class TextPairs:
    """A text and one that belongs to it, such as a question and the passage that answers it."""

    name: ClassVar[str] = "text_pairs"
    needs: ClassVar[str] = "`anchor` and `positive` (or `query` and `passage`, `question` and `answer`), two texts"
    anchor: str
    positive: str

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have both columns."""
        found = _columns(sample, spec, cls.name)
        return cls(*found) if found else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (self.anchor, self.positive)

    def read(self, row: Value) -> Example:
        """Return the text with the one that belongs to it."""
        return compared(text_in(row, self.anchor), text_in(row, self.positive))


@dataclass(frozen=True)
class Triplets:
    """A text, one that belongs to it, and one that does not."""

    name: ClassVar[str] = "triplets"
    needs: ClassVar[str] = "`anchor`, `positive` and `negative`, three texts"
    anchor: str
    positive: str
    negative: str

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have all three columns."""
        negative = next((name for name in NEGATIVES if sample.has(name, kind=str)), None)
        found = _columns(sample, spec, cls.name)
        return cls(*found, negative) if found and negative else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (self.anchor, self.positive, self.negative)

    def read(self, row: Value) -> Example:
        """Return the text with the other two."""
        anchor, positive, negative = (text_in(row, column) for column in self.columns)
        if positive == negative:
            why = f"`{self.positive}` and `{self.negative}` are the same text"
            raise RowError(why, f"/{self.negative}", code="same_texts")
        return compared(anchor, positive, negative)


def _columns(sample: Sample, spec: DataSpec, name: str) -> tuple[str, str] | None:
    """Return the columns of the text and of the one that belongs to it.

    A question and its answer are pairs only where no answer is to be written, and no label named.
    """
    if sample.has(*PLAIN, kind=str):
        return PLAIN
    if spec.format != name and (spec.render != "text" or Labelled.recognise(sample, spec)):
        return None
    anchor = next((name for name in ANCHORS if sample.has(name, kind=str)), None)
    positive = next((name for name in POSITIVES if sample.has(name, kind=str)), None)
    return (anchor, positive) if anchor and positive else None
