"""The doors of the rooms, loaded only when a run opens them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from luthier.advise.facts import Facts
from luthier.core.artifacts import Base, Exports, Prepared, Report, Trained
from luthier.core.events import Emit
from luthier.data.spec import DataSpec
from luthier.evaluate.spec import EvaluateSpec
from luthier.export.spec import ExportName, Form
from luthier.recipe import Recipe
from luthier.train.spec import TrainSpec


class BaseDoor(Protocol):
    """Finds the base model."""

    def __call__(self, name: str, emit: Emit, /) -> Base:
        """Return a folder that is safe to load."""


class FactsDoor(Protocol):
    """Looks at data, model and machine."""

    def __call__(self, recipe: Recipe, base: Base, emit: Emit, /) -> Facts:
        """Return what advice is drawn from."""


class DataDoor(Protocol):
    """Opens the data room."""

    def __call__(self, spec: DataSpec, given: Base, out: Path, emit: Emit, *, seed: int) -> Prepared:
        """Turn rows into tokenised splits."""


class TrainDoor(Protocol):
    """Opens the training room."""

    def __call__(self, spec: TrainSpec, given: Prepared, out: Path, emit: Emit, *, seed: int) -> Trained:
        """Tune the model."""


class EvaluateDoor(Protocol):
    """Opens the evaluation room."""

    def __call__(self, spec: EvaluateSpec, given: Trained, out: Path, emit: Emit, *, seed: int) -> Report:
        """Measure it against the untuned one."""


class ExportDoor(Protocol):
    """Opens the export room."""

    def __call__(
        self, spec: tuple[ExportName | Form, ...], given: Trained, out: Path, emit: Emit, *, card: str = ""
    ) -> Exports:
        """Write deployable folders."""


@dataclass(frozen=True)
class Rooms:
    """All doors; a test gives its own."""

    base: BaseDoor
    facts: FactsDoor
    data: DataDoor
    train: TrainDoor
    evaluate: EvaluateDoor
    export: ExportDoor


def real_rooms() -> Rooms:
    """Return the real rooms; this loads torch and takes seconds."""
    from luthier.data.room import run as data
    from luthier.evaluate.room import run as evaluate
    from luthier.jobs.export.export import run as export
    from luthier.jobs.facts import gather
    from luthier.model.base import resolve_base
    from luthier.train.room import run as train

    return Rooms(base=resolve_base, facts=gather, data=data, train=train, evaluate=evaluate, export=export)
