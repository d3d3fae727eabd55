"""What the evidence is read from: a run's folder, its plan, and the artifacts that are there so far."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from luthier.core.artifacts import Base, Prepared, Report, Trained
from luthier.core.runfolder import RunFolder
from luthier.jobs.prepare import saved_plan
from luthier.recipe import Plan

NO_PLAN = "the run has no plan yet"
NO_DATA = "the data is not prepared yet"
NO_STEP = "training has not begun yet"
NOT_TRAINED = "training has not finished yet"
NOT_EVALUATED = "the run is not evaluated yet"
NO_BASE = "the base model is no longer in its folder"


@dataclass(frozen=True)
class Opened:
    """A run, as far as it came."""

    run: RunFolder

    @cached_property
    def plan(self) -> Plan | None:
        """The resolved recipe."""
        return saved_plan(self.run) if self.run.plan.exists() else None

    @cached_property
    def prepared(self) -> Prepared | None:
        """The tokenised splits, wherever the run's folder lies by now."""
        prepared = Prepared.read(self.run.room("data"))
        return prepared and prepared.model_copy(update={"folder": self.run.room("data").absolute()})

    @cached_property
    def trained(self) -> Trained | None:
        """The tuned model, wherever the run's folder lies by now."""
        trained = Trained.read(self.run.room("train"))
        return trained and trained.model_copy(update={"folder": self.run.room("train").absolute()})

    @cached_property
    def report(self) -> Report | None:
        """The evaluation."""
        return Report.read(self.run.room("evaluate"))

    @cached_property
    def base(self) -> Base | None:
        """The base model, where its folder is still there."""
        base = self.prepared.base if self.prepared else None
        return base if base is not None and (base.folder / "config.json").exists() else None

    @property
    def train_folder(self) -> Path:
        """What the training room wrote."""
        return self.run.room("train")


def place(file: str, row: int) -> str:
    """Return where a row comes from, without this machine's folders."""
    return f"{Path(file).name}:{row}"
