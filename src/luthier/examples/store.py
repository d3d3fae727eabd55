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
        ("rejected_ids", pa.list_(pa.int32())),
        ("rejected_targets", pa.list_(pa.bool_())),
        ("words", pa.list_(pa.int32())),
        ("tags", pa.list_(pa.string())),
        ("other_ids", pa.list_(pa.list_(pa.int32()))),
    ]
)


_NONE_REJECTED: dict[str, list[int]] = {"rejected_ids": [], "rejected_targets": []}


@dataclass(frozen=True)
class Noise:
    """Noise that training adds to a row's embeddings."""

    seed: int
    alpha: float
    """Its size, divided by the square root of the row's values."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example and, for each, whether it carries loss."""

    ids: list[int]
    targets: list[bool]
    prompt_tokens: int
    """How many leading ids a request would send before the last answer."""
    only_last: bool = False
    """Earlier answers are rendered differently as history, so only the last one could be trained."""
    rejected: "Encoded | None" = None
    """The same prompt with the answer that is liked less; only in data of preferences."""
    reference: float | None = None
    """By how many nats the untuned model finds the answer likelier than the rejected one; known in training only."""
    noise: Noise | None = None
    """Noise on its embeddings; in training only."""
    words: tuple[int, ...] = ()
    """Where the first token of each word stands; only in texts whose words are named."""
    tags: tuple[str, ...] = ()
    """What each word is: `O`, `B-PER`, `I-PER`, …"""
    truth: tuple[float, ...] = ()
    """What a head is to say, in its own numbers; known in training only."""
    others: tuple["Encoded", ...] = ()
    """The texts that it is compared with; only where vectors are trained."""
    closing: int = 0
    """How many ids at the end stay there when the row is cut; known before it is kept only."""

    @property
    def answers(self) -> tuple["Encoded", ...]:
        """The row itself, and with it the rejected answer, or the texts that it is compared with."""
        return (self, *self.others) if self.rejected is None else (self, self.rejected)


def read_whole(ids: list[int], *, closing: int = 0, others: tuple[Encoded, ...] = ()) -> Encoded:
    """Return a text of which a vector is made: every token counts."""
    return Encoded(ids, [True] * len(ids), len(ids), others=others, closing=closing)


class SplitWriter:
    """Write rows to one split's Arrow file; memory stays at one batch of rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, object]] = []
        self._writer = pa.ipc.new_file(str(path), SCHEMA)

    def add(self, encoded: Encoded, example: Example) -> None:
        """Append one row."""
        row = {"ids": encoded.ids, "targets": encoded.targets, "prompt_tokens": encoded.prompt_tokens}
        row |= {"example": example.model_dump_json(exclude_defaults=True)}
        rejected = encoded.rejected
        row |= {"rejected_ids": rejected.ids, "rejected_targets": rejected.targets} if rejected else _NONE_REJECTED
        row |= {"words": encoded.words, "tags": encoded.tags, "other_ids": [other.ids for other in encoded.others]}
        self._rows.append(row)
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
        row = {name: self._table.column(name)[index].as_py() for name in self._table.column_names if name != "example"}
        prompt, ids = row["prompt_tokens"], row.get("rejected_ids")
        rejected = Encoded(ids, row["rejected_targets"], prompt) if ids else None
        # Splits that older versions wrote have no words.
        words, tags = tuple(row.get("words") or ()), tuple(row.get("tags") or ())
        others = tuple(read_whole(ids) for ids in row.get("other_ids") or ())
        return Encoded(row["ids"], row["targets"], prompt, rejected=rejected, words=words, tags=tags, others=others)

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
