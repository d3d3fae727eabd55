"""Runs in a row: what each is, how far it came, and how it measured."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from luthier.core.artifacts import Report, Trained
from luthier.core.errors import LuthierError
from luthier.core.events import read_events
from luthier.core.runfolder import ROOMS, RunFolder
from luthier.jobs.choose import finished
from luthier.jobs.plan import leaves, value_at
from luthier.jobs.prepare import saved_plan
from luthier.recipe_io.read import load_recipe
from luthier.score.verdict import estimate_text

TUNED = "tuned"


class RunSummary(BaseModel):
    """One line about a run."""

    model_config = ConfigDict(frozen=True)

    name: str
    folder: Path
    state: str
    """`finished`, where it stopped, or why it cannot be read."""
    base_model: str
    steps: int | None = None
    validation_loss: float | None = None
    metric: str | None = None
    """The primary metric's name."""
    results: dict[str, str] = {}
    """The primary metric of each system, with its interval."""
    conclusion: str | None = None


class Difference(BaseModel):
    """One value that is not the same in all compared runs."""

    path: str
    values: tuple[str, ...]


def summarise(run: RunFolder) -> RunSummary:
    """Read what a run folder says about itself; one that another version wrote must not hide the others."""
    try:
        return _summary(run)
    except LuthierError as error:
        return RunSummary(
            name=run.path.name, folder=run.path.absolute(), state=f"unreadable: {error.what}", base_model=""
        )


def _summary(run: RunFolder) -> RunSummary:
    trained, report = Trained.read(run.room("train")), Report.read(run.room("evaluate"))
    summary = RunSummary(name=run.path.name, folder=run.path.absolute(), state=state_of(run), base_model=_title(run))
    if trained is not None:
        done = {"steps": trained.steps, "validation_loss": trained.validation_loss}
        summary = summary.model_copy(update=done)
    if report is None:
        return summary
    metric = report.primary_metric
    results = {
        system.name: estimate_text(metric, system.metrics[metric])
        for system in report.systems
        if metric in system.metrics
    }
    return summary.model_copy(update={"metric": metric, "results": results, "conclusion": report.conclusion})


def _title(run: RunFolder) -> str:
    name = load_recipe(run.recipe).base_model
    return Path(name).name if Path(name).is_absolute() else name


def state_of(run: RunFolder) -> str:
    """Say how far a run came."""
    if finished(run):
        return "finished"
    if not run.plan.exists():
        return "not planned"
    room = next((room for room in ROOMS if not (run.room(room) / "artifact.json").exists()), ROOMS[-1])
    if room != "train":
        return f"unfinished: {room}"
    rows = [event.data for event in read_events(run.events) if event.room == "train" and event.kind == "metrics"]
    return f"unfinished: train, step {rows[-1]['step']} of {rows[-1]['steps']}" if rows else "unfinished: train"


def differences(runs: list[RunFolder]) -> list[Difference]:
    """Return the plan's values in which runs differ."""
    plans = [saved_plan(run) for run in runs]
    paths = list(dict.fromkeys(path for plan in plans for path in leaves(plan)))
    rows = [(path, tuple(str(value_at(plan, path)) for plan in plans)) for path in paths]
    return [Difference(path=path, values=values) for path, values in rows if len(set(values)) > 1]
