"""Templated: columns of any name, put into a text; loss falls on the last field and what follows it."""

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.core.errors import DataError
from luthier.data.formats.shape import Sample, columns_of
from luthier.data.rows import RowError, Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example, Segment

PIECE = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<field>[^{}]+)\}|(?P<text>[^{}]+)|(?P<wrong>[{}])")


@dataclass(frozen=True)
class Templated:
    """The columns that `data.text_template` names."""

    name: ClassVar[str] = "templated"
    needs: ClassVar[str] = "the columns named in `data.text_template`"
    pieces: tuple[tuple[str, bool], ...]
    """Text as it stands (False), or the name of a column (True)."""

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if a template is given; it must fit the columns."""
        if spec.text_template is None:
            return None
        made = cls(pieces_of(spec.text_template))
        unknown = [column for column in made.columns if column not in sample.columns]
        if unknown:
            found = ", ".join(f"`{column}`" for column in sample.columns) or "none"
            why = f"`{unknown[0]}` is not a column; the rows have {found}"
            hint = "name columns that the rows have, in braces"
            raise DataError("the text template names an unknown column", where=_WHERE, why=why, hint=hint)
        return made

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns used."""
        return tuple(dict.fromkeys(text for text, is_field in self.pieces if is_field))

    def read(self, row: Value) -> Example:
        """Return the text up to the last field's start as context, and the rest as what is learned."""
        last = max(index for index, (_, is_field) in enumerate(self.pieces) if is_field)
        texts = [_cell(row, text) if is_field else text for text, is_field in self.pieces]
        context, target = "".join(texts[:last]), "".join(texts[last:])
        if not texts[last].strip():
            column = self.pieces[last][0]
            raise RowError(f"`{column}` is empty", f"/{column}", code="empty")
        segments = (Segment(text=context, target=False), Segment(text=target, target=True))
        return Example(segments=segments if context else segments[1:])


_WHERE = {"field": "data.text_template"}


def pieces_of(template: str) -> tuple[tuple[str, bool], ...]:
    """Return a text template as text as it stands (False) and names of columns (True)."""
    pieces: list[tuple[str, bool]] = []
    for found in PIECE.finditer(template):
        if found["wrong"]:
            why = f"a `{found['wrong']}` at character {found.start() + 1} stands alone"
            hint = "write {{ and }} for braces in the text"
            raise DataError("the text template cannot be read", where=_WHERE, why=why, hint=hint)
        field = found["field"]
        pieces.append(
            (field.strip(), True)
            if field
            else ((found["brace"] or found["text"])[:1] if found["brace"] else found["text"], False)
        )
    if not any(is_field for _, is_field in pieces):
        hint = "name columns in braces: `Q: {question}\\nA: {answer}`"
        raise DataError("the text template has no field", where=_WHERE, hint=hint)
    return tuple(pieces)


def _cell(row: Value, column: str) -> str:
    value = columns_of(row).get(column)
    if value is None:
        raise RowError(f"no `{column}`", f"/{column}", code="missing_column")
    if not isinstance(value, str | int | float):
        raise RowError(f"`{column}` is neither text nor a number", f"/{column}")
    return str(value)
