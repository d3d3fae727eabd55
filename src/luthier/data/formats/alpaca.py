"""Alpaca: an instruction, maybe an input, and the output."""

from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.shape import Sample, columns_of, question_answer, text_in
from luthier.data.rows import Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example


@dataclass(frozen=True)
class Alpaca:
    """`instruction`, optionally `input`, answered by `output`."""

    name: ClassVar[str] = "alpaca"
    needs: ClassVar[str] = "`instruction` and `output` (and `input`)"
    columns: tuple[str, ...] = ("instruction", "input", "output")

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        return cls() if sample.has("instruction", "output") else None

    def read(self, row: Value) -> Example:
        """Return the instruction and, below it, the input as the question."""
        question = text_in(row, "instruction")
        if columns_of(row).get("input") is not None:
            given = text_in(row, "input", empty=True)
            question = f"{question}\n\n{given}" if given.strip() else question
        return question_answer(question, text_in(row, "output"))
