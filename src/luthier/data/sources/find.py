"""From what a recipe names to sources: files of a known kind, some of their rows, or hub data sets."""

import difflib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from luthier.core.errors import DataError
from luthier.core.files import sha256_of
from luthier.core.rowrange import RowRange, split_range
from luthier.data.rows import RawRow, RowIssue
from luthier.data.sources.conll import SUFFIXES as CONLL
from luthier.data.sources.conll import read_conll
from luthier.data.sources.delimited import read_csv, read_tsv
from luthier.data.sources.hub import HubName, read_hub
from luthier.data.sources.json_file import read_json
from luthier.data.sources.jsonl import read_jsonl
from luthier.data.sources.parquet import read_parquet

Reader = Callable[[Path, str], Iterator[RawRow | RowIssue]]
READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
"""Of files that hold any columns."""
KINDS: dict[str, Reader] = READERS | dict.fromkeys(CONLL, read_conll)
"""All, with those that hold tokens and tags."""
FROM_WHERE = "paths in a recipe count from its folder, those on the command line from where you are"


@dataclass(frozen=True)
class FileSource:
    """A file on this disk."""

    name: str
    """As the recipe names it."""
    path: Path
    reader: Reader
    range: RowRange = RowRange()
    """Which of its rows; all where the recipe names the file alone."""

    @property
    def identity(self) -> str:
        """What makes two sources the same: the file, whichever of its rows."""
        return str(self.path.resolve())

    def rows(self) -> Iterator[RawRow | RowIssue]:
        """Read the file from its start."""
        try:
            yield from itertools.islice(self.reader(self.path, self.name), self.range.first, self.range.last)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def sha256(self) -> str:
        """Return the hash of the file's bytes."""
        try:
            return sha256_of(self.path)
        except OSError as error:
            raise _unreadable(self.name, error) from error


def _unreadable(name: str, error: OSError) -> DataError:
    hint = "see whether you may read it, and whether its disk is there"
    return DataError("a data file cannot be read", where={"file": name}, why=error.strerror, hint=hint)


@dataclass(frozen=True)
class HubSource:
    """A split of a data set on the hub."""

    name: str
    hub: HubName

    @property
    def range(self) -> RowRange:
        """Which of its rows."""
        return RowRange(self.hub.first, self.hub.last)

    @property
    def identity(self) -> str:
        """What makes two sources the same: the split, whichever of its rows."""
        return ":".join(filter(None, (self.hub.repository, self.hub.subset, self.hub.split)))

    def rows(self) -> Iterator[RawRow | RowIssue]:
        """Stream the rows."""
        return read_hub(self.hub, self.name)

    def sha256(self) -> None:
        """Return None: what the hub holds is only known once it is read."""
        return


Source = FileSource | HubSource


def find_sources(paths: str | tuple[str, ...], field: str = "data.path") -> tuple[Source, ...]:
    """Return a source for each path; the first that cannot be one is an error."""
    names = (paths,) if isinstance(paths, str) else paths
    if not names or not all(name.strip() for name in names):
        raise DataError("no data file is named", where={"field": field}, hint="for example `data: rows.jsonl`")
    sources = tuple(map(_find, names))
    for one, other in itertools.combinations(sources, 2):
        if overlap(one, other):
            where = {"file": other.name, "field": field}
            raise DataError("a data file is named twice", where=where, hint="name it once")
    return sources


def overlap(one: Source, other: Source) -> bool:
    """Tell whether two sources have rows in common."""
    return one.identity == other.identity and one.range.overlaps(other.range)


def _find(name: str) -> Source:
    try:
        path = Path(name).expanduser()
        exists = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        why, hint = str(error)[:200], "name a file, or a hub data set such as `org/name:train`"
        raise DataError("this is not the path of a file", where={"file": name[:200]}, why=why, hint=hint) from error
    if exists:
        return _file(name, path)
    file, rows = split_range(name)
    if rows is not None and Path(file).expanduser().exists():
        return replace(_file(file, Path(file).expanduser()), name=name, range=_checked(rows, name))
    hub = HubName.parse(name)
    if hub is None or _kind(Path(name.partition(":")[0])) or Path(name).parent.is_dir():
        raise _missing(name, path)
    return HubSource(name, hub)


def _file(name: str, path: Path) -> FileSource:
    where = {"file": name}
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if _kind(file))
        hint = f"name files in it, such as `{path / inside[0]}`" if inside else f"name a file: {_suffixes()}"
        raise DataError("the data path is a folder", where=where, hint=hint)
    if not path.is_file():
        hint = "write its rows into a file, and name that"
        raise DataError("the data path is not a regular file", where=where, hint=hint)
    if path.stat().st_size == 0:
        raise DataError("the data file is empty", where=where, hint="write rows into it, or name another file")
    kind = _kind(path)
    if kind is None:
        why = f"known are {_suffixes()}, each also with `.gz`"
        raise DataError("this kind of file is not known", where=where, why=why, hint="rename it, or convert it to one")
    return FileSource(name, path, KINDS[kind])


def _checked(rows: RowRange, name: str) -> RowRange:
    if rows.last is not None and rows.first >= rows.last:
        hint = "rows count from 0 and the last is not taken: `rows.jsonl[:4096]`, `rows.jsonl[4096:4224]`"
        raise DataError("the range holds no rows", where={"file": name}, hint=hint)
    return rows


def _kind(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in KINDS if name.endswith(suffix)), None)


def _suffixes() -> str:
    return ", ".join(f"`{suffix}`" for suffix in KINDS)


def _missing(name: str, path: Path) -> DataError:
    try:
        beside = [file.name for file in path.parent.iterdir()]
    except OSError:
        why, hint = f"there is no folder `{path.parent}`", FROM_WHERE
        return DataError("the data file does not exist", where={"file": name}, why=why, hint=hint)
    close = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"did you mean `{path.with_name(close[0])}`?" if close else FROM_WHERE
    return DataError("the data file does not exist", where={"file": name}, hint=hint)
