"""Labelled text: one column with a text, one with its label from a small set."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from luthier.data.formats.shape import Sample, columns_of, judged, question_answer, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example

MAX_LABELS = 50
MAX_LABEL_CHARACTERS = 60
TEXTS = ("text", "sentence", "phrase", "review", "comment", "content", "tweet", "utterance")
LABELS = (
    *("label_text", "label_name", "label", "category", "class", "sentiment", "tone", "intent", "topic", "emotion"),
    *("section", "rating", "stars"),
)


@dataclass(frozen=True)
class Labelled:
    """A text column and a label column."""

    name: ClassVar[str] = "labelled"
    needs: ClassVar[str] = "a text column and a label column (`text` and `label`, or two columns of any name)"
    text: str
    label: str
    instruction: str | None
    labels: tuple[str, ...] = ()
    """All labels, sorted; known once all rows were read."""
    raw: bool = False
    """Whether the text stands alone, for a head that names the label."""

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if a text and a label column stand out by name, or as the only two."""
        found = _stand_out(sample, MAX_LABELS)
        # Asked for by name, a column may have more labels, and labels that do not recur in the first rows.
        if found is None and spec.format == cls.name:
            found = _stand_out(sample, None)
        return cls(*found, spec.instruction, raw=spec.render == "text") if found else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (self.text, self.label)

    def label_of(self, row: Value) -> str:
        """Return the row's label as text."""
        value = columns_of(row).get(self.label)
        if value is None:
            raise RowError(f"no `{self.label}`", f"/{self.label}", code="missing_column")
        shown = shown_label(value)
        if shown is None:
            raise RowError(f"`{self.label}` is not a label: one short line", f"/{self.label}", code="bad_label")
        return shown

    def read(self, row: Value) -> Example:
        """Return instruction and text as the question, the label as the answer; or text and label alone."""
        text, label = text_in(row, self.text), self.label_of(row)
        if self.raw:
            return judged(text, label=label)
        plain = f"Classify the text. Answer with one of: {', '.join(self.labels)}."
        return question_answer(f"{self.instruction or plain}\n\n{text}", label, label=label)


def shown_label(value: Any) -> str | None:
    """Return a value as a label, one short line, or None where it is none."""
    if isinstance(value, bool | int):
        return json.dumps(value)
    if not isinstance(value, str):
        return None
    value = value.strip()
    return value if value and "\n" not in value and len(value) <= MAX_LABEL_CHARACTERS else None


def _stand_out(sample: Sample, most: int | None) -> tuple[str, str] | None:
    """Return the text column and the label column, by their names or else by their values."""
    label = next((name for name in LABELS if sample.has(name) and _is_label(sample, name, most)), None)
    text = next((name for name in TEXTS if name != label and sample.has(name, kind=str)), None)
    if label and text:
        return text, label
    if len(sample.columns) != 2:
        return None
    # Of two columns, the label is the one with fewer different values, and the other must not be one too.
    fewer, more = sorted(sample.columns, key=lambda name: len(set(map(str, sample.values(name)))))
    fits = _is_label(sample, fewer, most) and sample.has(more, kind=str) and not _is_label(sample, more, MAX_LABELS)
    return (more, fewer) if fits else None


def _is_label(sample: Sample, column: str, most: int | None) -> bool:
    """Return whether a column's values are short and, unless `most` is None, at most that many and recurring."""
    values = sample.values(column)
    counts = Counter(shown for value in values if (shown := shown_label(value)) is not None)
    if not counts or counts.total() < 0.9 * len(values):
        return False
    return most is None or (len(counts) <= most and 2 * len(counts) <= counts.total())
