"""Scored text: one column with a text, one with a number; only for a head that says numbers."""

import sys
from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.labelled import TEXTS
from luthier.data.formats.shape import Sample, columns_of, judged, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example

SCORES = ("score", "value", "rating", "stars", "target", "label")


@dataclass(frozen=True)
class Scored:
    """A text column and a column of numbers."""

    name: ClassVar[str] = "scored"
    needs: ClassVar[str] = "a text column and `score` (or `value`, `rating`, `label`), a number"
    text: str
    score: str

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if it was asked for: a number beside a text is often only a remark about it."""
        if spec.format != cls.name:
            return None
        score = next((name for name in SCORES if is_numeric(sample, name)), None)
        text = next((name for name in TEXTS if name != score and sample.has(name, kind=str)), None)
        return cls(text, score) if text and score else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (self.text, self.score)

    def read(self, row: Value) -> Example:
        """Return the text with its number."""
        value = columns_of(row).get(self.score)
        if value is None:
            raise RowError(f"no `{self.score}`", f"/{self.score}", code="missing_column")
        if not is_number(value):
            raise RowError(f"`{self.score}` is not a number", f"/{self.score}", code="bad_score")
        return judged(text_in(row, self.text), score=float(value))


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number."""
    # Compared and not converted: a whole number may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_numeric(sample: Sample, column: str) -> bool:
    """Tell whether at least half of the rows have a number in a column."""
    values = sample.values(column)
    return bool(values) and 2 * sum(map(is_number, values)) >= len(sample.rows)
