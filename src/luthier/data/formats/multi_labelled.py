"""Text with several labels, or none; only for a head."""

from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.labelled import TEXTS, shown_label
from luthier.data.formats.shape import Sample, columns_of, judged, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example

LABELS = "labels"


@dataclass(frozen=True)
class MultiLabelled:
    """A text column and `labels`, a list of them."""

    name: ClassVar[str] = "multi_labelled"
    needs: ClassVar[str] = "a text column and `labels`, a list of labels"
    text: str

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        text = next((name for name in TEXTS if sample.has(name, kind=str)), None)
        return cls(text) if text and sample.has(LABELS, kind=list) else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (self.text, LABELS)

    def read(self, row: Value) -> Example:
        """Return the text with its labels, sorted."""
        text, listed = text_in(row, self.text), columns_of(row).get(LABELS)
        if not isinstance(listed, list):
            known = "is not a list" if LABELS in columns_of(row) else "is missing: a row without labels has `[]`"
            raise RowError(f"`{LABELS}` {known}", f"/{LABELS}", code="bad_label")
        labels = []
        for place, value in enumerate(listed):
            label = shown_label(value)
            if label is None or label in labels:
                why = "is there twice" if label else "is not a label: one short line"
                raise RowError(f"the label {why}", f"/{LABELS}/{place}", code="bad_label")
            labels.append(label)
        return judged(text, labels=tuple(sorted(labels)))
