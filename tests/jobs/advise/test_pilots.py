"""How large the pilots are that a budget allows."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from luthier.evaluate.alternatives.budget import Budget
from luthier.jobs.advise.pilots import Pilot, Pilots


class Counted(Pilots):
    """Pilots of which each row takes a second, and nothing else anything."""

    def __init__(self, rows: int, seconds: float, tmp_path: Path, seeds: int = 1) -> None:
        self.now = 0.0
        self.budget = Budget(seconds, clock=lambda: self.now)
        self.asked = SimpleNamespace(results=[])
        self.done, self._split = [], range(rows)
        self.recipe, self.seeds, self.folder, self.again = SimpleNamespace(seed=7), seeds, tmp_path, []

    def _is_kept(self, rows: int) -> bool:
        return False

    def _guessed(self, rows: int) -> float:
        return float(rows)

    def _tune_again(self, last: Pilot, seed: int) -> None:
        self.now += last.rows
        self.again.append(seed)

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
def test_pilots_are_as_large_as_time_allows(rows: int, seconds: float, sizes: list[int], tmp_path: Path) -> None:
    pilots = Counted(rows, seconds, tmp_path)
    pilots.run()
    assert [pilot.rows for pilot in pilots.done] == sizes and pilots.now <= seconds
    assert bool(pilots.budget.left_out) == (sizes[-1] < rows)


def test_the_first_pilot_is_not_run_where_the_budget_cannot_hold_it(tmp_path: Path) -> None:
    pilots = Counted(700, 40, tmp_path)
    pilots.run()
    assert not pilots.done and pilots.now == 0
    assert pilots.budget.left_out == {"tuning": "it would take about 43 s, and 40 s are left"}


@pytest.mark.parametrize(
    ("seconds", "sizes", "again", "left_out"),
    [
        # 43 + 175 + 350 + 3 × 700 rows fit.
        (3400, [43, 175, 350, 700], [8, 9], []),
        # All three seeds count, so that half the rows are taken; rows once would have had room.
        (2200, [43, 88, 175, 350], [8, 9], ["tuned on all 700 rows"]),
        (100, [43], [8], ["tuned on 43 rows with seed 9"]),
    ],
)
def test_the_budget_counts_every_seed(seconds: float, sizes, again, left_out, tmp_path: Path) -> None:
    pilots = Counted(700, seconds, tmp_path, seeds=3)
    pilots.run()
    assert ([pilot.rows for pilot in pilots.done], pilots.again) == (sizes, again) and pilots.now <= seconds
    assert [name for name in pilots.budget.left_out if name in left_out or "seed" in name] == left_out
