"""The order of the rooms: data → train → evaluate → export. It stands here and nowhere else."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luthier.core.artifacts import Base, Exports, Prepared, Report, Trained
from luthier.core.errors import CheckpointError, DataError, LuthierError, RecipeError
from luthier.core.events import Emit
from luthier.core.files import write_atomic
from luthier.core.runfolder import RunFolder
from luthier.evaluate.harness import check_harness, harness_sources
from luthier.evaluate.spec import EvaluateSpec
from luthier.evaluate.user import check_user_metrics, sources_of
from luthier.export.spec import form_of
from luthier.jobs.card import model_card
from luthier.jobs.export.forms import check_packages
from luthier.jobs.listen import Listener, listening
from luthier.jobs.manifest import Manifest
from luthier.jobs.plan import plan_yaml
from luthier.jobs.prepare import prepare, saved_plan, settle
from luthier.jobs.rooms import Rooms, real_rooms
from luthier.jobs.stage import stage
from luthier.jobs.trackers import check_trackers
from luthier.recipe import Plan, Recipe
from luthier.train.needs import check_needs

SEEDS = "seeds"
"""The folder of further trainings, within the first one's."""


@dataclass(frozen=True)
class RunResult:
    """What a run made, typed; everything in it also lies in the run folder."""

    folder: Path
    plan: Plan
    trained: Trained
    report: Report | None
    """None where the recipe leaves the evaluation out."""
    exports: Exports | None
    """None where the recipe asks for no export."""


@dataclass(frozen=True)
class Desk:
    """What every stage of a run needs."""

    folder: RunFolder
    plan: Plan
    rooms: Rooms
    emit: Emit


def run_recipe(
    recipe: Recipe, folder: RunFolder, *, listeners: tuple[Listener, ...] = (), rooms: Rooms | None = None
) -> RunResult:
    """Do a recipe in a run folder, or go on with what an earlier process left there."""
    with folder.locked(), _nothing_left_of_a_false_start(folder), listening(folder, listeners, recipe.trackers) as emit:
        check_trackers(recipe.trackers)
        doors = rooms or real_rooms()
        plan, base = prepare(recipe, folder, doors, emit)
        desk = Desk(folder, plan, doors, emit)

        check_packages(plan.export)
        check_needs(plan.train)
        prepared = _data(desk, base)
        _check_held_out(plan, prepared)
        trained = _train(desk, prepared)
        report = _evaluate(desk, trained) if plan.evaluate else None
        card = _card(desk, trained, report)
        exports = _export(desk, trained, card) if plan.export else None

        Manifest.read(folder.manifest).finish(folder.manifest)
        return RunResult(folder.path.absolute(), plan, trained, report, exports)


@contextlib.contextmanager
def _nothing_left_of_a_false_start(folder: RunFolder) -> Iterator[None]:
    """Remove a new run that failed before its data was ready: there is nothing in it to go on with."""
    is_new = not folder.recipe.exists()
    try:
        yield
    except BaseException as error:
        is_planned = folder.plan.exists() and not isinstance(error, LuthierError)
        if is_new and not is_planned and Prepared.read(folder.room("data")) is None:
            folder.discard()
        raise


def evaluate_run(
    folder: RunFolder,
    *,
    overrides: tuple[str, ...] = (),
    listeners: tuple[Listener, ...] = (),
    rooms: Rooms | None = None,
) -> Report:
    """Measure a trained run, again only where the plan's evaluation has changed."""
    foreign = [word for word in overrides if not word.startswith("evaluate.")]
    if foreign:
        hint = "for anything else, start a new run"
        raise RecipeError("only `evaluate.…` can be set here", where={"--set": foreign[0]}, hint=hint)
    with folder.locked(), listening(folder, listeners) as emit:
        doors = rooms or real_rooms()
        plan = saved_plan(folder, overrides)
        base = doors.base(plan.base_model, emit)
        trained = trained_of(folder, base)
        if plan.evaluate is None:
            plan = plan.model_copy(update={"evaluate": EvaluateSpec()})
        check_user_metrics(plan.evaluate)
        check_harness(plan.evaluate.harness)
        plan = settle(plan, base, doors, emit)
        write_atomic(folder.plan, plan_yaml(plan))
        desk = Desk(folder, plan, doors, emit)
        report = _evaluate(desk, trained)
        _card(desk, trained, report)
        return report


def trained_of(folder: RunFolder, base: Base) -> Trained:
    """Return the tuned model of a run, wherever its folder lies by now."""
    trained = Trained.read(folder.room("train"))
    if trained is None:
        hint = "go on with it: `luthier run RECIPE --resume`"
        raise CheckpointError("this run has not finished training", where={"run": folder.path}, hint=hint)
    prepared = trained.prepared.model_copy(update={"folder": folder.room("data").absolute(), "base": base})
    own = {"folder": folder.room("train").absolute(), "prepared": prepared, "again": _again(folder)}
    return trained.model_copy(update=own)


def _data(desk: Desk, base: Base) -> Prepared:
    spec, seed = desk.plan.data, desk.plan.seed
    files = Manifest.read(desk.folder.manifest).data_files
    prepared = stage(
        desk.folder.room("data").absolute(),
        Prepared,
        lambda out: desk.rooms.data(spec, base, out, desk.emit, seed=seed),
        inputs=[spec, seed, base.weights_sha256, files],
        emit=desk.emit,
    )
    return prepared.model_copy(update={"folder": desk.folder.room("data").absolute(), "base": base})


def _check_held_out(plan: Plan, prepared: Prepared) -> None:
    """Refuse before the long work what would fail after it."""
    needs = {"test": plan.evaluate, "validation": plan.train.early_stopping}
    leave_out = {"test": "write `evaluate: null`", "validation": "leave out `train.early_stopping`"}
    for part, need in needs.items():
        if need is not None and not prepared.rows.get(part):
            why = "there are too few rows, or all of them are near-duplicates of each other"
            hint = f"add rows, name `data.{part}_path`, or {leave_out[part]}"
            raise DataError(f"no row is left for {part}", where={"field": f"data.split.{part}"}, why=why, hint=hint)


def _train(desk: Desk, prepared: Prepared) -> Trained:
    spec, seed = desk.plan.train, desk.plan.seed
    stage(
        desk.folder.room("train").absolute(),
        Trained,
        lambda out: desk.rooms.train(spec, prepared, out, desk.emit, seed=seed),
        inputs=[spec, seed, prepared.inputs_sha256],
        emit=desk.emit,
    )
    for number in range(1, desk.plan.seeds):
        _train_again(desk, prepared, seed + number)
    return trained_of(desk.folder, prepared.base)


def _train_again(desk: Desk, prepared: Prepared, seed: int) -> None:
    """Train once more with another seed, in a folder of its own within the training's."""
    spec = desk.plan.train
    stage(
        (desk.folder.room("train") / SEEDS / str(seed)).absolute(),
        Trained,
        lambda out: desk.rooms.train(spec, prepared, out, desk.emit, seed=seed),
        inputs=[spec, seed, prepared.inputs_sha256],
        emit=desk.emit,
    )


def _again(folder: RunFolder) -> tuple[Path, ...]:
    """Return the weights of the trainings with other seeds that are done."""
    done = [path for path in (folder.room("train") / SEEDS).glob("*") if Trained.read(path) is not None]
    return tuple(path.absolute() / "weights" for path in sorted(done, key=lambda path: int(path.name)))


def _evaluate(desk: Desk, trained: Trained) -> Report:
    spec, seed = desk.plan.evaluate, desk.plan.seed
    sources = [*sources_of(spec), *harness_sources(spec.harness)]
    report = stage(
        desk.folder.room("evaluate").absolute(),
        Report,
        lambda out: desk.rooms.evaluate(spec, trained, out, desk.emit, seed=seed),
        inputs=[spec, seed, trained.inputs_sha256, *sources, *(path.parent.name for path in trained.again)],
        emit=desk.emit,
    )
    return report.model_copy(update={"folder": desk.folder.room("evaluate").absolute()})


def _card(desk: Desk, trained: Trained, report: Report | None) -> str:
    """Write the model card beside the results, and return it."""
    card = model_card(desk.plan, trained, report)
    write_atomic(desk.folder.card, card)
    return card


def _export(desk: Desk, trained: Trained, card: str) -> Exports:
    forms = desk.plan.export
    return stage(
        desk.folder.room("export").absolute(),
        Exports,
        lambda out: desk.rooms.export(forms, trained, out, desk.emit, card=card),
        inputs=[[form_of(one).model_dump(mode="json") for one in forms], trained.inputs_sha256, card],
        emit=desk.emit,
    )
