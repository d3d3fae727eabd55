"""What all trials of a search share: the recipe, the data prepared once, the facts that plans are resolved from."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.advise.facts import Facts
from luthier.core.artifacts import Base, Prepared
from luthier.core.errors import DataError, RecipeError
from luthier.core.events import Emit, Event
from luthier.core.spec import Spec
from luthier.jobs.manifest import data_hashes
from luthier.jobs.plan import as_plan, open_fields, resolve, value_at
from luthier.jobs.prepare import check_sources
from luthier.jobs.rooms import Rooms
from luthier.jobs.search.read import set_words
from luthier.jobs.search.space import Space
from luthier.jobs.search.strategy import COSTS, LOSS
from luthier.jobs.stage import stage
from luthier.recipe import Plan, Recipe
from luthier.recipe_io.read import load_recipe
from luthier.train.spec import check_data

HELD_OUT = "The test split is not looked at: trials are judged on the validation rows."


@dataclass(frozen=True)
class Wanted:
    """What a search is asked."""

    recipe: Path
    space: Path
    overrides: tuple[str, ...] = ()
    trials: int | None = None
    """Instead of the space file's `num_trials`."""
    sampler: str | None = None
    pruner: str | None = None
    objectives: tuple[str, ...] = ()
    budget_s: float | None = None
    workers: int = 1
    out: Path | None = None
    resume: bool = False

    @property
    def changes(self) -> dict[str, Any]:
        """What the command line says instead of the space file."""
        named = {"num_trials": self.trials, "type": self.sampler, "pruner": self.pruner}
        return named | {"objectives": self.objectives or None}


class Desk:
    """Makes plans and folders of trials; looks at data, model and machine once."""

    def __init__(self, wanted: Wanted, space: Space, rooms: Rooms, folder: Path, emit: Emit) -> None:
        self.wanted, self.space, self.rooms, self.folder, self.emit = wanted, space, rooms, folder, emit
        self.recipe = load_recipe(wanted.recipe, self._words({}))
        check_sources(self.recipe)
        check_validation(self.recipe)
        self.base: Base = rooms.base(self.recipe.base_model, emit)
        self.prepared = self._prepared()

    def _words(self, values: Mapping[str, Any]) -> list[str]:
        """Return the `--set` words of a trial; several at once share the cores."""
        words = [*self.wanted.overrides, *set_words(values)]
        threads = load_recipe(self.wanted.recipe, words).train.threads
        if self.wanted.workers > 1 and threads == "auto":
            words.append(f"train.threads={max(1, (os.cpu_count() or 1) // self.wanted.workers)}")
        return words

    @cached_property
    def facts(self) -> Facts:
        """What `auto` values are resolved from."""
        return self.rooms.facts(self.recipe, self.base, self.emit)

    def recipe_of(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe with a trial's values."""
        return load_recipe(self.wanted.recipe, [*self.wanted.overrides, *set_words(values)])

    def plan_of(self, values: Mapping[str, Any]) -> Plan:
        """Return what a trial will do, nothing left open."""
        recipe = load_recipe(self.wanted.recipe, self._words(values))
        plan = self._settled(recipe)
        check_data(plan.train.method, self.prepared.format)
        return plan

    def _settled(self, recipe: Recipe) -> Plan:
        return resolve(recipe, self.facts) if open_fields(recipe) else as_plan(recipe, {})

    @cached_property
    def own(self) -> dict[str, Any]:
        """The recipe's own values of the searched fields, resolved where it says `auto`."""
        plan = self.plan_of({})
        return {one.path: self._plain(plan, one.path) for one in self.space.dimensions}

    def _plain(self, plan: Plan, path: str) -> Any:
        """Return a value as a space file would write it: a block by its name where it says no more."""
        value = value_at(plan, path)
        if isinstance(value, Spec):
            said = value_at(self.recipe, path).model_dump(mode="json", exclude_defaults=True)
            return said if said.keys() - {"name"} else getattr(value, "name", said)
        return list(value) if isinstance(value, tuple) else value

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return (self.folder / "trials" / f"{number:04d}").absolute()

    def asked(self, plan: Plan) -> dict[str, Any]:
        """Return what a trial's process is asked."""
        return {
            "plan": plan.model_dump(mode="json"),
            "prepared": self.prepared.model_dump(mode="json"),
            "held_out": self.held_out.model_dump(mode="json"),
            "metrics": [name for name in self.space.strategy.objectives if name not in (LOSS, *COSTS)],
        }

    def _prepared(self) -> Prepared:
        """Prepare the rows, once for all trials."""
        data, seed = self._settled(self.recipe).data, self.recipe.seed
        prepared = stage(
            (self.folder / "data").absolute(),
            Prepared,
            lambda out: self.rooms.data(data, self.base, out, self.emit, seed=seed),
            inputs=[data, seed, self.base.weights_sha256, data_hashes(self.recipe)],
            emit=self.emit,
        )
        prepared = prepared.model_copy(update={"folder": (self.folder / "data").absolute(), "base": self.base})
        if not prepared.rows.get("validation"):
            why = "there are too few rows, or all of them are near-duplicates of each other"
            where, hint = {"field": "data.split.validation"}, "add rows, or name `data.validation_path`"
            raise DataError("no row is left for validation", where=where, why=why, hint=hint)
        return prepared

    @cached_property
    def held_out(self) -> Prepared:
        """The prepared rows with the validation rows in the place of the test rows, for metrics of answers."""
        folder = (self.folder / "held-out").absolute()
        (folder / "examples").mkdir(parents=True, exist_ok=True)
        for name, source in (("train", "train"), ("validation", "validation"), ("test", "validation")):
            link(self.prepared.folder / "examples" / f"{source}.arrow", folder / "examples" / f"{name}.arrow")
        rows = self.prepared.rows | {"test": self.prepared.rows["validation"]}
        return self.prepared.model_copy(update={"folder": folder, "rows": rows})


def check_validation(recipe: Recipe) -> None:
    """Refuse a recipe that holds no rows out to judge trials on."""
    if recipe.data.split.validation or recipe.data.validation_path:
        return
    why = "trials are judged on validation rows; the test rows stay unseen until `luthier run`"
    hint = "set it to 0.1, or name `data.validation_path`"
    raise RecipeError(
        "the recipe holds out no validation rows", where={"field": "data.split.validation"}, why=why, hint=hint
    )


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk cannot."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def note(emit: Emit, message: str) -> None:
    """Say something about the search."""
    emit(Event(room="search", kind="note", message=message))
