"""`luthier search`: try values of a recipe, keep the best as a recipe, and say how sure that is."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import luthier
from luthier.core.errors import RecipeError
from luthier.core.events import Emit, EventLog
from luthier.core.files import disk_errors, write_atomic
from luthier.core.runfolder import RunFolder
from luthier.jobs.choose import run_name
from luthier.jobs.manifest import data_hashes
from luthier.jobs.rooms import Rooms, real_rooms
from luthier.jobs.search.desk import HELD_OUT, Desk, Wanted, note
from luthier.jobs.search.found import found
from luthier.jobs.search.read import check_against, read_space
from luthier.jobs.search.report import RESULT, write_report
from luthier.jobs.search.result import Searched
from luthier.jobs.search.space import Space
from luthier.jobs.search.study import FILE, Study
from luthier.jobs.search.trials import Start, Trials
from luthier.jobs.search.worker import Worker
from luthier.recipe_io.read import load_recipe

KEPT = "search.json"
"""What the search in a folder was asked; written before its first trial."""
SEARCHES = "searches"
PREPARED = ("data", "held-out")
"""Folders that a search makes before its first trial."""


def search(wanted: Wanted, emit: Emit, *, rooms: Rooms | None = None, start: Start = Worker) -> Searched:
    """Do a search, or go on with one that was stopped."""
    read, space = read_space(wanted.space, wanted.changes)
    check_against(read, space, wanted.recipe, wanted.overrides)
    asked = asked_for(wanted, space)
    folder = choose_folder(wanted, asked, emit)
    run = RunFolder(folder)
    with run.locked(), _nothing_left_of_a_false_start(folder):
        write_atomic(folder / KEPT, json.dumps(asked, indent=2) + "\n")
        run.mend_events()
        heard = EventLog(run.events, (emit,))
        note(heard, f"the search is in {folder}")
        note(heard, HELD_OUT)
        desk = Desk(wanted, space, rooms or real_rooms(), folder, heard)
        if desk.recipe.seeds > 1:
            note(heard, "each trial trains with the first seed alone; `best.yaml` keeps `seeds`")
        if set(desk.recipe.trackers) - {"tensorboard"}:
            note(heard, "trackers hear the run of `best.yaml`, not the trials; their losses are in the study")
        study = Study(folder, space, seed=desk.recipe.seed)
        study.begin_with(desk.own)
        try:
            Trials(desk, study, start).run()
        finally:
            result = write_report(desk, found(desk, study))
        return result


@contextlib.contextmanager
def _nothing_left_of_a_false_start(folder: Path) -> Iterator[None]:
    """Remove a new search that failed before its first trial: there is nothing in it to go on with."""
    is_new = not (folder / KEPT).exists()
    try:
        yield
    except BaseException:
        if is_new and not (folder / FILE).exists():
            _discard(folder)
        raise


def _discard(folder: Path) -> None:
    """Remove what a search writes before its first trial, and the folder itself where nothing else is in it."""
    for name in (KEPT, RunFolder(folder).events.name, FILE, ".lock"):
        (folder / name).unlink(missing_ok=True)
    for name in PREPARED:
        shutil.rmtree(folder / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def asked_for(wanted: Wanted, space: Space) -> dict[str, object]:
    """Return what makes a search this one and no other: more trials or more time are still the same."""
    recipe = load_recipe(wanted.recipe, wanted.overrides)
    strategy = space.strategy.model_dump(mode="json", exclude={"num_trials"})
    ranges = {one.path: one.range.model_dump(mode="json") for one in space.dimensions}
    dumped = recipe.model_dump(mode="json", exclude={"reasons"})
    asked = {"recipe": dumped, "search_strategy": strategy, "search_space": ranges}
    return asked | {"data": data_hashes(recipe), "luthier": luthier.__version__}


def choose_folder(wanted: Wanted, asked: dict[str, object], emit: Emit) -> Path:
    """Return the folder to search in: a new one, the one asked for, or the one to go on with."""
    if wanted.out is not None:
        _check_out(wanted.out, asked, resume=wanted.resume)
        return wanted.out
    root, name = Path(SEARCHES), run_name(wanted.recipe)
    numbered = (root / (name if number == 1 else f"{name}-{number}") for number in range(1, 100_000))
    taken: list[Path] = []
    for folder in numbered:
        if not folder.exists():
            break
        taken.append(folder)
    if wanted.resume:
        going_on = next((one for one in reversed(taken) if _kept(one) == asked), None)
        if going_on is not None:
            return going_on
        note(emit, "there is no search like this to go on with: a new one starts")
    return folder


def _kept(folder: Path) -> object:
    path = folder / KEPT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _check_out(out: Path, asked: dict[str, object], *, resume: bool) -> None:
    with disk_errors(out):
        if out.is_file():
            raise RecipeError("this is a file, not a folder", where={"out": out}, hint="choose another `--out`")
        kept = _kept(out)
        if kept is None and out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            hint = "choose an empty or a new folder with `--out`"
            raise RecipeError("this folder holds something that is no search", where={"out": out}, hint=hint)
    if kept is not None and kept != asked:
        changed = ", ".join(name for name in asked if not isinstance(kept, dict) or kept.get(name) != asked[name])
        why = f"what differs from when it was begun: {changed}"
        hint = "choose another folder with `--out`"
        raise RecipeError("this folder holds another search", where={"out": out}, why=why, hint=hint)
    if kept is not None and not resume and not _finished(out):
        hint = "add `--resume` to go on with it, or choose another folder with `--out`"
        raise RecipeError("this folder holds an unfinished search", where={"out": out}, hint=hint)


def _finished(out: Path) -> bool:
    path = out / RESULT
    return path.exists() and Searched.model_validate_json(path.read_text(encoding="utf-8")).finished
