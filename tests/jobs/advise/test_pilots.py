"""How large the pilots are that a budget allows."""

from types import SimpleNamespace

import pytest

from luthier.evaluate.alternatives.budget import Budget
from luthier.jobs.advise.pilots import Pilot, Pilots


class Counted(Pilots):
    """Pilots of which each row takes a second, and nothing else anything."""

    def __init__(self, rows: int, seconds: float) -> None:
        self.now = 0.0
        self.budget = Budget(seconds, clock=lambda: self.now)
        self.asked = SimpleNamespace(results=[])
        self.done, self._split = [], range(rows)

    def _is_kept(self, rows: int) -> bool:
        return False

    def _tune(self, rows: int) -> None:
        self.now += rows
        self.done.append(Pilot(rows, SimpleNamespace(seconds=float(rows))))


@pytest.mark.parametrize(
    ("rows", "seconds", "sizes"),
    [
        (700, 2000, [43, 175, 350, 700]),
        (700, 1000, [43, 88, 175, 350]),
        # A single pilot fits, and so it is done: seconds that are left tell nothing.
        (700, 160, [43, 88]),
        (700, 60, [43]),
        (30, 1000, [24]),
    ],
)
def test_pilots_are_as_large_as_time_allows(rows: int, seconds: float, sizes: list[int]) -> None:
    pilots = Counted(rows, seconds)
    pilots.run()
    assert [pilot.rows for pilot in pilots.done] == sizes and pilots.now <= seconds
    assert bool(pilots.budget.left_out) == (sizes[-1] < rows)
