"""Texts whose entities are named: by spans of characters, or by a tag for each token; only for a head."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from luthier.data.formats.labelled import TEXTS, shown_label
from luthier.data.formats.shape import Sample, columns_of, judged, text_in
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example, Span
from luthier.examples.spans import Place, overlapping, spans_of

TOKENS = "tokens"
TAGS = ("ner_tags", "tags")
SPANS = ("spans", "entities")
TAG = re.compile(r"O|[BIESLU]-\S+")


@dataclass(frozen=True)
class Tagged:
    """`tokens` with `tags`, or a text with `spans` of `start`, `end` and `label`."""

    name: ClassVar[str] = "tagged"
    needs: ClassVar[str] = "`tokens` and `tags` (`O`, `B-PER`, …), or a text and `spans` of start, end and label"
    text: str
    named: str

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have one of its two shapes."""
        tags = next((name for name in TAGS if sample.has(TOKENS, name, kind=list)), None)
        if tags:
            return cls(TOKENS, tags)
        text = next((name for name in TEXTS if sample.has(name, kind=str)), None)
        spans = next((name for name in SPANS if sample.has(name, kind=list)), None)
        return cls(text, spans) if text and spans else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return (self.text, self.named)

    def read(self, row: Value) -> Example:
        """Return the text with its entities, in their order."""
        if self.text == TOKENS:
            text, spans = self._from_tokens(row)
        else:
            text, spans = text_in(row, self.text), self._from_spans(row)
        return judged(text, spans=tuple(spans))

    def _from_tokens(self, row: Value) -> tuple[str, list[Span]]:
        tokens, tags = _list_in(row, TOKENS), _list_in(row, self.named)
        for place, token in enumerate(tokens):
            if not isinstance(token, str) or not token.strip():
                raise RowError("the token is not text", f"/{TOKENS}/{place}")
        for place, tag in enumerate(tags):
            if not isinstance(tag, str) or not TAG.fullmatch(tag):
                hint = "numbers need their names: write `B-PER`, not 1" if isinstance(tag, int) else "as `O` or `B-PER`"
                raise RowError(f"{tag!r} is not a tag ({hint})", f"/{self.named}/{place}", code="bad_tag")
        if not tokens or len(tokens) != len(tags):
            raise RowError(f"{len(tokens)} tokens, but {len(tags)} tags", f"/{self.named}", code="bad_tag")
        words = places_of(tokens)
        return " ".join(tokens), spans_of(words, tags)

    def _from_spans(self, row: Value) -> list[Span]:
        length = len(text_in(row, self.text))
        spans = [self._span(place, one, length) for place, one in enumerate(_list_in(row, self.named))]
        both = overlapping(spans)
        if both:
            shown = " and ".join(f"{one.label} {one.start}–{one.end}" for one in both)
            raise RowError(f"entities overlap: {shown}", f"/{self.named}", code="overlap")
        return sorted(spans, key=lambda span: span.start)

    def _span(self, place: int, value: Any, length: int) -> Span:
        at = f"/{self.named}/{place}"
        if not isinstance(value, dict):
            raise RowError("not an object with `start`, `end` and `label`", at, code="bad_span")
        start, end, label = value.get("start"), value.get("end"), shown_label(value.get("label"))
        for name, number in (("start", start), ("end", end)):
            if not isinstance(number, int) or isinstance(number, bool):
                raise RowError(f"`{name}` is not a character's number", f"{at}/{name}", code="bad_span")
        if not 0 <= start < end <= length:
            why = f"{start}–{end} is no piece of a text of {length} characters"
            raise RowError(why, at, code="bad_span")
        if label is None:
            raise RowError("`label` is not a label: one short line", f"{at}/label", code="bad_label")
        return Span(start=start, end=end, label=label)


def places_of(tokens: Sequence[str]) -> list[Place]:
    """Return where tokens stand in the text that they make with single spaces between them."""
    places, at = [], 0
    for token in tokens:
        places.append((at, at + len(token)))
        at += len(token) + 1
    return places


def _list_in(row: Value, column: str) -> list[Any]:
    value = columns_of(row).get(column)
    if not isinstance(value, list):
        why = "is not a list" if column in columns_of(row) else "is missing"
        raise RowError(f"`{column}` {why}", f"/{column}", code="missing_column")
    return value
