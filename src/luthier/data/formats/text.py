"""Plain text: a `text` column, or bare strings; loss falls on all of it."""

from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.shape import Sample, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example, Segment


@dataclass(frozen=True)
class Text:
    """`text`, or rows that are bare strings."""

    name: ClassVar[str] = "text"
    needs: ClassVar[str] = "`text` (or rows that are bare strings)"
    columns: tuple[str, ...] = ("text",)

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        bare = sum(isinstance(row, str) for row in sample.rows)
        return cls() if sample.has("text", kind=str) or 2 * bare > len(sample.rows) else None

    def read(self, row: Value) -> Example:
        """Return the text as one learned segment."""
        text = row if isinstance(row, str) else text_in(row, "text")
        if not text.strip():
            raise RowError("the text is empty", code="empty")
        return Example(segments=(Segment(text=text, target=True),))
