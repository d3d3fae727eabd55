"""Data sets of the hub, read as a stream by the `datasets` library, which runs no code of theirs."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.core.errors import DataError
from luthier.data.rows import RawRow, RowIssue
from luthier.data.sources.parquet import without_nulls

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

NAME = re.compile(
    r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:/(?P<subset>[\w.-]+))?"
    r"(?::(?P<split>[\w.]+)(?:\[(?P<first>\d*%?):(?P<last>\d*%?)\])?)?"
)


@dataclass(frozen=True)
class HubName:
    """`org/name`, `org/name/subset`, `org/name:train`, `org/name:train[:4096]` or `org/name:train[:10%]`."""

    repository: str
    subset: str | None
    split: str
    first: int
    last: int | None
    streamed: bool
    """False where a share of the rows is asked for, which needs the whole split on this disk."""

    @classmethod
    def parse(cls, name: str) -> "HubName | None":
        """Return the parts of a hub name, or None if it is not one."""
        found = NAME.fullmatch(name)
        if found is None:
            return None
        first, last = found["first"] or "", found["last"] or ""
        split = found["split"] or "train"
        if "%" in first + last:
            return cls(found["repository"], found["subset"], f"{split}[{first}:{last}]", 0, None, streamed=False)
        end = int(last) if last else None
        return cls(found["repository"], found["subset"], split, int(first or 0), end, streamed=True)


def read_hub(name: HubName, label: str) -> Iterator[RawRow | RowIssue]:
    """Yield the rows of one split; class numbers become class names."""
    try:
        data = _open(name)
        names = _class_names(data)
        for number, value in enumerate(itertools.islice(data, name.first, name.last), name.first + 1):
            yield RawRow(label, number, _named(without_nulls(dict(value)), names))
    except Exception as error:  # the HTTP library below, and so its errors, change by version
        raise _unreachable(label, error) from error


def _open(name: HubName) -> "Dataset | IterableDataset":
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar
    from huggingface_hub.utils import logging

    disable_progress_bar()
    # What it retries is no talk for a person; what fails in the end is told as an error.
    logging.set_verbosity_error()
    return load_dataset(name.repository, name.subset, split=name.split, streaming=name.streamed)


def _class_names(data: "Dataset | IterableDataset") -> dict[str, list[str]]:
    from datasets import ClassLabel

    features = data.features or {}
    return {column: feature.names for column, feature in features.items() if isinstance(feature, ClassLabel)}


def _named(value: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    for column, classes in names.items():
        number = value.get(column, -1)
        if 0 <= number < len(classes):
            value[column] = classes[number]
    return value


def _unreachable(label: str, error: BaseException) -> DataError:
    why = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    hint = (
        "check the name, the subset (`org/name/subset:train`), the split and the connection; private sets need HF_TOKEN"
    )
    return DataError("a hub data set cannot be read", where={"data": label}, why=why, hint=hint)
