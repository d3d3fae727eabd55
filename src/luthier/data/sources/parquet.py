"""Parquet, in small batches and under a byte budget: its footer cannot be trusted about its size."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luthier.core.errors import DataError
from luthier.data.rows import RawRow, RowIssue
from luthier.data.sources.streams import BOMB_BYTES, BOMB_RATIO, check_bomb, is_packed, open_bytes

ROWS_PER_BATCH = 512
ROWS_AT_ONCE = 16
"""Rows that are Python objects at one time; a row may be large."""
COPY_BYTES = 1 << 20


def read_parquet(path: Path, name: str) -> Iterator[RawRow | RowIssue]:
    """Yield the rows of a Parquet file; nulls count as absent."""
    limit = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
    number, unpacked = 0, 0
    for batch in _batches(path, limit):
        unpacked += _unpacked_bytes(batch)
        check_bomb(path, unpacked, limit)
        for value in _values(batch, path):
            number += 1
            yield RawRow(name, number, value)


def without_nulls(value: Any) -> Any:
    """Leave out null fields: typed tables fill in every key that any row has."""
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [without_nulls(part) for part in value]
    return value


def _batches(path: Path, limit: int) -> Iterator[pa.RecordBatch]:
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(open_bytes(path))
        if is_packed(path):
            file = _seekable(file, stack.enter_context(tempfile.TemporaryFile()))
        try:
            for batch in _open(file, path, limit).iter_batches(ROWS_PER_BATCH):
                # Nothing else stands between a damaged file and reads beyond its buffers.
                batch.validate(full=True)
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error


def _open(file: BinaryIO, path: Path, limit: int) -> pq.ParquetFile:
    footer = pq.read_metadata(file)
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    check_bomb(path, sum(group.total_byte_size for group in groups), limit)
    file.seek(0)
    # Texts stay in their dictionaries, where a repeated one lies once, until their true size is known.
    names = [field.name for field in footer.schema.to_arrow_schema() if _is_text(field.type)]
    return pq.ParquetFile(file, read_dictionary=names)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _unpacked_bytes(batch: pa.RecordBatch) -> int:
    return sum(_dictionary_bytes(column) if pa.types.is_dictionary(column.type) else column.nbytes for column in batch)


def _dictionary_bytes(column: pa.DictionaryArray) -> int:
    if not _is_text(column.type.value_type):
        return column.nbytes
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(column.indices)).as_py() or 0


def _values(batch: pa.RecordBatch, path: Path) -> Iterator[dict[str, Any]]:
    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
        try:
            values = batch.slice(start, ROWS_AT_ONCE).to_pylist()
        except (pa.ArrowException, ValueError, OverflowError, RecursionError) as error:
            raise _damaged(path, error) from error
        yield from map(without_nulls, values)


def _seekable(packed: BinaryIO, file: BinaryIO) -> BinaryIO:
    while data := packed.read(COPY_BYTES):
        file.write(data)
    file.seek(0)
    return file


def _damaged(path: Path, error: BaseException) -> DataError:
    why = (str(error).splitlines() or [""])[0][:200]
    hint = "write it again, or save it as JSON Lines"
    return DataError("a Parquet file cannot be read", where={"file": path}, why=why, hint=hint)
