"""Confusion tables: counts by true and answered label, with each cell's share of its row for the shading."""

from dataclasses import dataclass

from luthier.core.artifacts import SystemResult


@dataclass(frozen=True)
class Cell:
    """How often one true label was answered with one label."""

    count: int
    share: float
    """Share of the rows with this true label, 0 to 1."""
    right: bool


@dataclass(frozen=True)
class ConfusionTable:
    """One system's counts: a row of cells per true label."""

    system: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def confusion_table(system: SystemResult) -> ConfusionTable | None:
    """Lay out a system's confusion counts, or return None where answers are open."""
    counts = system.confusion
    if not counts:
        return None
    answered = [label for row in counts.values() for label in row]
    columns = list(
        dict.fromkeys([*counts, *sorted(set(answered) - set(counts), key=lambda label: (label == "(other)", label))])
    )
    rows = [(true, [_cell(row, true, column) for column in columns]) for true, row in counts.items()]
    return ConfusionTable(system.name, columns, rows)


def _cell(row: dict[str, int], true: str, column: str) -> Cell:
    count = row.get(column, 0)
    return Cell(count, count / max(1, sum(row.values())), true == column)
