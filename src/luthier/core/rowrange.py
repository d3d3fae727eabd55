"""Some rows of a data file: `rows.jsonl[:4096]`, `rows.jsonl[4096:4224]`, counted from 0 as in Python."""

import re
from dataclasses import dataclass
from pathlib import Path

RANGE = re.compile(r"(?P<file>.+)\[(?P<first>\d{0,18}):(?P<last>\d{0,18})\]")


@dataclass(frozen=True)
class RowRange:
    """Rows from `first` up to, and without, `last`; all by default."""

    first: int = 0
    last: int | None = None

    def overlaps(self, other: "RowRange") -> bool:
        """Tell whether two ranges have a row in common."""
        ends_before = self.last is not None and self.last <= other.first
        begins_after = other.last is not None and other.last <= self.first
        return not (ends_before or begins_after)


def split_range(name: str) -> tuple[str, RowRange | None]:
    """Return the file that a recipe names, and which of its rows where it says so; a file may be called so itself."""
    found = RANGE.fullmatch(name)
    if found is None or Path(name).exists():
        return name, None
    return found["file"], RowRange(int(found["first"] or 0), int(found["last"]) if found["last"] else None)
