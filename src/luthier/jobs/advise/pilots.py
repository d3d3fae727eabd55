"""Pilots: real tunings on fractions of the rows, each measured like every other alternative."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from luthier.advise.facts import Facts
from luthier.core.artifacts import Prepared, Trained
from luthier.core.events import Event
from luthier.examples.store import Split, write_split
from luthier.jobs.plan import resolve
from luthier.jobs.rooms import Rooms
from luthier.jobs.stage import stage
from luthier.recipe import Plan, Recipe

if TYPE_CHECKING:
    from luthier.evaluate.alternatives.asking import Alternatives

FRACTIONS = (0.25, 0.5, 1.0)
FEWEST = 24
"""Rows that the smallest pilot has at least."""
STEP = 1.5
"""How many times as many rows the next pilot has at least."""
SHARE = 0.85
"""Of the time that is left, the share that pilots may take."""
TRAINING_COST = 3
"""A guess: training on a token costs as much as reading so many, for the way back too."""


@dataclass(frozen=True)
class Pilot:
    """A tuning on a fraction of the rows."""

    rows: int
    trained: Trained

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"tuned on {self.rows:,} rows"


class Pilots:
    """Tunes on nested fractions of the training rows, the smallest first, as far as the budget reaches."""

    def __init__(
        self, asked: "Alternatives", recipe: Recipe, facts: Facts, rooms: Rooms, folder: Path, seeds: int
    ) -> None:
        self.seeds = seeds
        self.asked, self.recipe, self.facts, self.rooms, self.folder = asked, recipe, facts, rooms, folder
        self.budget, self.done = asked.desk.budget, list[Pilot]()
        given = asked.given
        self._split = Split(given.split("train"))
        self._order = np.random.default_rng(recipe.seed).permutation(len(self._split)).tolist()

    def run(self) -> None:
        """Tune on as large fractions as time allows, and measure each; the largest with every seed."""
        whole = len(self._split)
        scale = self._scale()
        for rows in self._wanted(scale) if self.done else ():
            name = f"tuned on {rows:,} rows"
            kept = self._is_kept(rows)
            if not kept and not self.budget.allows(name, self._expected(rows)):
                continue
            self._tune(rows)
        if self.done and self.done[-1].rows < whole and f"tuned on {whole:,} rows" not in self.budget.left_out:
            seconds = self._expected(whole)
            self.budget.left_out[f"tuned on all {whole:,} rows"] = f"it would take about {seconds / 60:.0f} min"
        if self.done:
            self._again(self.done[-1])

    def _again(self, last: Pilot) -> None:
        """Train the largest pilot once more with each further seed, as far as the budget reaches."""
        for seed in range(self.recipe.seed + 1, self.recipe.seed + self.seeds):
            kept = Trained.read(self._seed_folder(last.rows, seed)) is not None
            if kept or self.budget.allows(f"{last.name} with seed {seed}", self._expected(last.rows)):
                self._tune_again(last, seed)

    def _scale(self) -> float:
        """Return the part of the rows that the largest pilot may have: halved from all until it is affordable.

        A smallest tuning is done first, to see how long a row takes here.
        """
        whole = len(self._split)
        smallest = min(whole, max(FEWEST, whole // 16))
        if not self._is_kept(smallest) and not self.budget.allows("tuning", self._guessed(smallest)):
            return 0.0
        self._tune(smallest)
        scale = 1.0
        affordable = self.budget.left * SHARE
        # Only what would be tuned counts: a last size that time allows is worth more than seconds that are left.
        while scale > 1 / 64 and not self._all_kept(scale) and self._cost(scale) > affordable:
            scale /= 2
        return scale

    def _all_kept(self, scale: float) -> bool:
        return all(self._is_kept(rows) for rows in self._wanted(scale))

    def _cost(self, scale: float) -> float:
        sizes = self._wanted(scale)
        return sum(self._expected(rows) for rows in [*sizes, *sizes[-1:] * (self.seeds - 1)])

    def _wanted(self, scale: float) -> list[int]:
        """Return the sizes of the pilots to come: those that are well above the one before."""
        sizes: list[int] = []
        before = self.done[-1].rows if self.done else 0
        for fraction in FRACTIONS:
            rows = max(FEWEST, round(len(self._split) * fraction * scale))
            if rows >= STEP * before:
                sizes.append(rows)
                before = rows
        return sizes

    def _expected(self, rows: int) -> float:
        """Return the seconds of a pilot: what the last one took, per row, and its measurement."""
        if not self.done:
            return 0.0
        last = self.done[-1]
        measuring = sum(result.seconds for result in self.asked.results if result.train_rows == last.rows)
        return last.trained.seconds * rows / last.rows + measuring

    def _guessed(self, rows: int) -> float:
        """Return about how many seconds the first pilot takes: by what reading a token took, and asking a prompt."""
        train = self._plan(rows).train
        mean, held = self.facts.data.mean_tokens, self.asked.given.rows.get("validation", 0)
        size = train.batch_size if isinstance(train.batch_size, int) else 1
        seen = train.steps * size if train.steps else (train.epochs or 1) * (rows + held)
        measuring = sum(result.seconds for result in self.asked.results if result.family == "prompt")
        return self.asked.desk.seconds(TRAINING_COST * mean * seen) + measuring

    def _plan(self, rows: int) -> Plan:
        return resolve(self.recipe, replace(self.facts, data=replace(self.facts.data, rows=rows)))

    def _is_kept(self, rows: int) -> bool:
        return Trained.read(self._folder(rows) / "train") is not None

    def _folder(self, rows: int) -> Path:
        return self.folder / "pilots" / str(rows)

    def _seed_folder(self, rows: int, seed: int) -> Path:
        return self._folder(rows) / "seeds" / str(seed)

    def _tune(self, rows: int) -> None:
        prepared, folder = self._part(rows), self._folder(rows)
        plan = self._plan(rows)
        self.asked.emit(Event(room="jobs", kind="note", message=f"pilot: tuning on {rows:,} rows"))
        trained = stage(
            folder / "train",
            Trained,
            lambda out: self.rooms.train(plan.train, prepared, out, self.asked.emit, seed=plan.seed),
            inputs=[plan.train, plan.seed, prepared.inputs_sha256, rows],
            emit=self.asked.emit,
        )
        pilot = Pilot(rows, trained.model_copy(update={"folder": folder / "train", "prepared": prepared}))
        self.done.append(pilot)
        self.asked.tuned(pilot.name, pilot.trained)

    def _tune_again(self, last: Pilot, seed: int) -> None:
        prepared, folder = last.trained.prepared, self._seed_folder(last.rows, seed)
        plan = self._plan(last.rows)
        self.asked.emit(Event(room="jobs", kind="note", message=f"pilot: {last.name} again, with seed {seed}"))
        trained = stage(
            folder,
            Trained,
            lambda out: self.rooms.train(plan.train, prepared, out, self.asked.emit, seed=seed),
            inputs=[plan.train, seed, prepared.inputs_sha256, last.rows],
            emit=self.asked.emit,
        )
        trained = trained.model_copy(update={"folder": folder, "prepared": prepared})
        self.asked.tuned_again(last.name, seed, trained)

    def _part(self, rows: int) -> Prepared:
        """Return the data with so many training rows; smaller parts lie within larger ones."""
        given, folder = self.asked.given, self._folder(rows) / "data"
        (folder / "examples").mkdir(parents=True, exist_ok=True)
        chosen = sorted(self._order[:rows])
        pairs = ((self._split.encoded(row), self._split.example(row)) for row in chosen)
        write_split(folder / "examples" / "train.arrow", pairs)
        for name in ("validation", "test"):
            other = Split(given.split(name))
            write_split(
                folder / "examples" / f"{name}.arrow",
                ((other.encoded(row), other.example(row)) for row in range(len(other))),
            )
        encoded = [self._split.encoded(row) for row in chosen]
        return given.model_copy(
            update={
                "folder": folder,
                "rows": given.rows | {"train": len(chosen)},
                "target_tokens": sum(sum(row.targets) for row in encoded),
                "total_tokens": sum(len(row.ids) for row in encoded),
            }
        )
