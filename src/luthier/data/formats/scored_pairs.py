"""Scored pairs: two texts and how alike they are, a number or a label of 0 or 1; only for vectors of texts."""

from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.scored import is_number, is_numeric
from luthier.data.formats.shape import Sample, columns_of, compared, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example

PAIRS = (("sentence1", "sentence2"), ("text1", "text2"), ("sentence_A", "sentence_B"))
SCORES = ("score", "similarity", "similarity_score", "label", "labels")


@dataclass(frozen=True)
class ScoredPairs:
    """Two columns of texts and one of numbers."""

    name: ClassVar[str] = "scored_pairs"
    needs: ClassVar[str] = "`sentence1` and `sentence2` (or `text1` and `text2`), and `score` or `label`, a number"
    first: str
    second: str
    score: str

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have two texts and a number."""
        pair = next((pair for pair in PAIRS if sample.has(*pair, kind=str)), None)
        score = next((name for name in SCORES if is_numeric(sample, name)), None)
        return cls(*pair, score) if pair and score else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (self.first, self.second, self.score)

    def read(self, row: Value) -> Example:
        """Return the first text with the second one and their number."""
        value = columns_of(row).get(self.score)
        if value is None:
            raise RowError(f"no `{self.score}`", f"/{self.score}", code="missing_column")
        if not is_number(value):
            raise RowError(f"`{self.score}` is not a number", f"/{self.score}", code="bad_score")
        return compared(text_in(row, self.first), text_in(row, self.second), score=float(value))
