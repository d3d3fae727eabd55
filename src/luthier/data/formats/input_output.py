"""Input and output without a template: a question and its answer."""

from dataclasses import dataclass
from typing import ClassVar, Self

from luthier.data.formats.shape import Sample, question_answer, text_in
from luthier.data.rows import Value
from luthier.data.spec import DataSpec
from luthier.examples.example import Example


@dataclass(frozen=True)
class InputOutput:
    """`input`, answered by `output`."""

    name: ClassVar[str] = "input_output"
    needs: ClassVar[str] = "`input` and `output`"
    columns: tuple[str, ...] = ("input", "output")

    @classmethod
    def recognise(cls, sample: Sample, spec: DataSpec) -> Self | None:
        """Return the format if the rows have its shape."""
        return cls() if sample.has("input", "output") else None

    def read(self, row: Value) -> Example:
        """Return the input as the question and the output as the answer."""
        return question_answer(text_in(row, "input"), text_in(row, "output"))
