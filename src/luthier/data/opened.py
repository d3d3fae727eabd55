"""Data opened for reading: its sources by part, its format, and its rows as examples."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from luthier.core.errors import DataError
from luthier.data.formats.labelled import MAX_LABELS, Labelled
from luthier.data.formats.recognise import Format, recognise, unused_columns, used_columns
from luthier.data.formats.shape import Sample
from luthier.data.rows import RawRow, RowError, RowIssue
from luthier.data.sources.find import Source, find_sources, overlap
from luthier.data.spec import DataSpec
from luthier.examples.example import Example
from luthier.examples.store import Encoded

Encode = Callable[[Example], Encoded]
"""A Template's `encode`."""
PARTS = ("train", "validation", "test")
SAMPLE_ROWS = 1000
SHOWN_ISSUES = 20


@dataclass(frozen=True)
class Opened:
    """What a recipe's data part names, recognised."""

    spec: DataSpec
    sources: dict[str, tuple[Source, ...]]
    """The files of each part; `train` is what the other parts are cut from where they have no files."""
    format: Format
    sample: Sample

    @property
    def because(self) -> str:
        """Say what the format was recognised by, or reads."""
        columns = ", ".join(f"`{column}`" for column in used_columns(self.sample, self.format))
        return f"{self.format.name}, from {f'the columns {columns}' if columns else 'bare text'}"

    @property
    def unused(self) -> list[str]:
        """Columns that the format does not read."""
        return unused_columns(self.sample, self.format)

    def raw_rows(self, part: str) -> Iterator[RawRow | RowIssue]:
        """Yield the rows of one part, file after file."""
        return itertools.chain.from_iterable(source.rows() for source in self.sources[part])

    def examples(self, part: str) -> Iterator[Example | RowIssue]:
        """Yield the rows of one part as examples."""
        return (read_row(row, self.format) for row in self.raw_rows(part))


def open_data(spec: DataSpec) -> Opened:
    """Find the sources and recognise the format from the first rows."""
    paths = {"train": spec.path, "validation": spec.validation_path or (), "test": spec.test_path or ()}
    sources = {
        part: find_sources(named, f"data.{_FIELDS[part]}") if named or part == "train" else ()
        for part, named in paths.items()
    }
    _check_apart(sources)
    sample = _sample(sources["train"])
    return Opened(spec, sources, recognise(sample, spec), sample)


def with_labels(opened: Opened) -> Opened:
    """Read all rows of labelled text for its labels: the instruction before each text lists them."""
    if not isinstance(opened.format, Labelled):
        return opened
    labels = Counter(label for part in PARTS for row in opened.raw_rows(part) if (label := _label(row, opened.format)))
    if len(labels) > MAX_LABELS and opened.spec.format == "auto":
        why = f"`{opened.format.label}` has {len(labels):,} different values, more than {MAX_LABELS}"
        hint = "set `data.format: labelled` if they are labels all the same, or `data.text_template` if not"
        raise DataError("this does not look like labelled text", where={"data": opened.spec.path}, why=why, hint=hint)
    return replace(opened, format=replace(opened.format, labels=tuple(sorted(labels))))


def read_row(row: RawRow | RowIssue, shape: Format) -> Example | RowIssue:
    """Return the row as an example that knows where it comes from, or the reason why not."""
    if isinstance(row, RowIssue):
        return row
    try:
        example = shape.read(row.value)
    except RowError as error:
        return error.issue(row.file, row.row)
    return example.model_copy(update={"file": row.file, "row": row.row})


def encode_row(example: Example, encode: Encode) -> Encoded | RowIssue:
    """Return the row's tokens, both answers of a pair, or what the model's template has against it."""
    other = example.with_rejected
    try:
        encoded = encode(example)
        return encoded if other is None else replace(encoded, rejected=encode(other))
    except DataError as error:
        reason = ": ".join(filter(None, (error.what, error.why)))
        return RowIssue(example.file, example.row, error.code, reason)


def unreadable(issues: list[RowIssue], *, at_least: bool = False) -> DataError:
    """Return the error that lists the first rows that cannot be read."""
    shown = "".join(f"\n          {issue}" for issue in issues[:SHOWN_ISSUES])
    count = f"{'at least ' if at_least else ''}{len(issues):,} row{'s' if len(issues) > 1 else ''}"
    more = f"\n          and {len(issues) - SHOWN_ISSUES:,} more" if len(issues) > SHOWN_ISSUES else ""
    hint = "repair them, or leave them out with `data.unreadable_rows: skip`"
    files = ", ".join(dict.fromkeys(issue.file for issue in issues))
    return DataError(f"{count} cannot be read", where={"file": files}, why=f"the reasons are{shown}{more}", hint=hint)


_FIELDS = {"train": "path", "validation": "validation_path", "test": "test_path"}


def _label(row: RawRow | RowIssue, shape: Labelled) -> str | None:
    try:
        return None if isinstance(row, RowIssue) else shape.label_of(row.value)
    except RowError:
        # Counted and listed when the rows are read as examples.
        return None


def _sample(sources: tuple[Source, ...]) -> Sample:
    issues: list[RowIssue] = []
    values = []
    for row in itertools.chain.from_iterable(source.rows() for source in sources):
        if isinstance(row, RawRow):
            values.append(row.value)
        else:
            issues.append(row)
        if max(len(values), len(issues)) >= SAMPLE_ROWS:
            break
    if values:
        return Sample(tuple(values))
    if issues:
        raise unreadable(issues, at_least=len(issues) >= SAMPLE_ROWS)
    where = {"file": ", ".join(source.name for source in sources)}
    raise DataError("the data holds no rows", where=where, hint="write rows into it, or name another file")


def _check_apart(sources: dict[str, tuple[Source, ...]]) -> None:
    named = [(part, source) for part in sources for source in sources[part]]
    for (part, one), (other_part, other) in itertools.combinations(named, 2):
        if part != other_part and overlap(one, other):
            why = f"it is named both for {part} and for {other_part}"
            hint = "name different files, or rows that do not overlap, or cut the splits from one with `data.split`"
            raise DataError("one file cannot be in two splits", where={"file": other.name}, why=why, hint=hint)
