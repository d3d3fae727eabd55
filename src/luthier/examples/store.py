"""The tokenised split on disk: an Arrow file, written as a stream and read by memory map."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute

from luthier.core.files import disk_errors
from luthier.examples.example import Example

ROWS_PER_BATCH = 512
SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),
        ("targets", pa.list_(pa.bool_())),
        ("prompt_tokens", pa.int32()),
        ("example", pa.string()),
    ]
)


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example and, for each, whether it carries loss."""

    ids: list[int]
    targets: list[bool]
    prompt_tokens: int
    """How many leading ids a request would send before the last answer."""
    only_last: bool = False
    """Earlier answers are rendered differently as history, so only the last one could be trained."""


class SplitWriter:
    """Write rows to one split's Arrow file; memory stays at one batch of rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, object]] = []
        self._writer = pa.ipc.new_file(str(path), SCHEMA)

    def add(self, encoded: Encoded, example: Example) -> None:
        """Append one row."""
        row = {"ids": encoded.ids, "targets": encoded.targets, "prompt_tokens": encoded.prompt_tokens}
        self._rows.append(row | {"example": example.model_dump_json(exclude_defaults=True)})
        if len(self._rows) >= ROWS_PER_BATCH:
            self._flush()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows that already are Arrow, as `Split.batches` yields them."""
        self._flush()
        with disk_errors(self._path):
            self._writer.write_batch(batch)

    def _flush(self) -> None:
        with disk_errors(self._path):
            if self._rows:
                self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=SCHEMA))
            self._rows = []

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        with disk_errors(self._path):
            self._writer.close()


class Split:
    """A tokenised split; rows are read from the memory-mapped file when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pa.memory_map(str(path)) as source:
            self._table = pa.ipc.open_file(source).read_all()

    def __len__(self) -> int:
        return self._table.num_rows

    def encoded(self, index: int) -> Encoded:
        """Return the tokens of one row."""
        column = self._table.column
        return Encoded(
            column("ids")[index].as_py(), column("targets")[index].as_py(), column("prompt_tokens")[index].as_py()
        )

    def example(self, index: int) -> Example:
        """Return one row as the example it was made from."""
        return Example.model_validate_json(self._table.column("example")[index].as_py())

    def examples(self) -> Iterator[Example]:
        """Yield all examples in order."""
        return (self.example(index) for index in range(len(self)))

    def batches(self) -> list[pa.RecordBatch]:
        """Return the rows as Arrow batches, in order, still on disk."""
        return self._table.to_batches()

    def lengths(self) -> list[int]:
        """Return the number of tokens of each row."""
        return pa.compute.list_value_length(self._table.column("ids")).to_pylist()


def write_split(path: Path, rows: Iterable[tuple[Encoded, Example]]) -> int:
    """Write a whole split and return its number of rows."""
    count = 0
    with SplitWriter(path) as writer:
        for encoded, example in rows:
            writer.add(encoded, example)
            count += 1
    return count
