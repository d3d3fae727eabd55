"""From a job to the recipe that `luthier run` would take."""

from pathlib import Path

from luthier.core.artifacts import Trained
from luthier.core.events import Emit
from luthier.core.runfolder import RunFolder
from luthier.data.rows import RawRow
from luthier.data.sources.jsonl import read_jsonl
from luthier.data.spec import DataSpec, SplitSpec
from luthier.jobs.plan import replaced
from luthier.jobs.prepare import saved_plan, settle
from luthier.jobs.rooms import Rooms
from luthier.jobs.service.records import Hyperparameters, JobRecord
from luthier.jobs.service.settings import ServiceSettings
from luthier.jobs.service.tuning import TRAINING, VALIDATION
from luthier.recipe import Plan, Recipe

SNAPSHOTS = 3
"""Epochs whose weights are kept as checkpoints, as the hosted service does."""


RAW_TEXT = "{prompt}{completion}"
"""How `/completions` puts a text to the model: as it is, without a chat template."""


def recipe_of(job: JobRecord, folder: RunFolder, settings: ServiceSettings) -> Recipe:
    """Return the recipe: the client's files and numbers, and the owner's settings for the rest."""
    wanted = job.hyperparameters
    data = DataSpec(
        path=str(folder.path / TRAINING),
        text_template=RAW_TEXT if _is_raw(folder.path / TRAINING) else None,
        validation_path=str(folder.path / VALIDATION) if job.validation_file else None,
        split=SplitSpec(validation=0.0, test=0.0),
        too_long="cut",
        near_duplicates=1.0,
        # Rows train as they are sent: the hosted service leaves none out either.
        repeats="keep",
        unreadable_rows="stop",
    )
    asked = {
        "method": _method(job),
        "epochs": None if wanted.n_epochs == "auto" else float(wanted.n_epochs),
        "batch_size": settings.train.batch_size if wanted.batch_size == "auto" else wanted.batch_size,
        "snapshots": SNAPSHOTS,
        # The tuned model is that of the last step, as on the hosted service; earlier epochs are its checkpoints.
        "keep_best": False,
    }
    return Recipe(
        base_model=settings.bases[job.base],
        data=data,
        train=type(settings.train).model_validate(settings.train.model_dump() | asked),
        evaluate=None,
        export=(),
        seed=job.seed,
    )


def plan_of(job: JobRecord, folder: RunFolder, settings: ServiceSettings, *, rooms: Rooms, emit: Emit) -> Plan:
    """Return the plan a job began with, or settle it now: every `auto` resolved, the learning rate multiplied."""
    if folder.plan.exists() and folder.manifest.exists():
        return saved_plan(folder)
    recipe = recipe_of(job, folder, settings)
    plan = settle(recipe, rooms.base(recipe.base_model, emit), rooms, emit)
    multiplier = job.hyperparameters.learning_rate_multiplier
    if multiplier == "auto":
        return plan
    return replaced(plan, "train.learning_rate", plan.train.learning_rate * multiplier)


def settled(job: JobRecord, plan: Plan) -> Hyperparameters:
    """Return the numbers that a job really uses."""
    wanted, train = job.hyperparameters, plan.train
    multiplier = 1.0 if wanted.learning_rate_multiplier == "auto" else wanted.learning_rate_multiplier
    return Hyperparameters(
        batch_size=train.batch_size,
        learning_rate_multiplier=multiplier,
        n_epochs=round(train.epochs or 1),
        beta=getattr(train.method, "beta", None),
    )


def trained_tokens(trained: Trained, epochs: int) -> int:
    """Return the tokens that were trained on: every token of every row, in each epoch."""
    return trained.prepared.total_tokens * epochs


def _is_raw(training: Path) -> bool:
    """Say whether examples are texts and their continuations, which are asked for at `/completions`."""
    first = next((row.value for row in read_jsonl(training, TRAINING) if isinstance(row, RawRow)), None)
    return isinstance(first, dict) and all(isinstance(first.get(side), str) for side in ("prompt", "completion"))


def _method(job: JobRecord) -> dict[str, object]:
    if job.method == "supervised":
        return {"name": "sft"}
    beta = job.hyperparameters.beta
    return {"name": "dpo"} | ({} if beta in (None, "auto") else {"beta": beta})
