"""Which folder a run works in: a new one, the one asked for, or the one to go on with."""

import re
from pathlib import Path

from luthier.core.errors import RecipeError
from luthier.core.files import disk_errors
from luthier.core.runfolder import RunFolder, base_name, new_run, runs_of
from luthier.core.settings import runs_dir
from luthier.jobs.manifest import Manifest
from luthier.jobs.prepare import same_recipe
from luthier.recipe import Recipe

# Files with these names are called after the folder they lie in.
EVERYDAY_NAMES = ("recipe", "plan")
UNFIT = re.compile(r"[^\w.-]+")


def run_name(recipe_file: Path | None) -> str:
    """Return the name of a recipe's runs: its file's, or for `recipe.yaml` its folder's."""
    if recipe_file is None:
        return "run"
    path = recipe_file.resolve()
    name = base_name(path.parent.name) if path.stem in EVERYDAY_NAMES else path.stem
    return UNFIT.sub("-", name).strip("-.") or "run"


def choose_folder(recipe: Recipe, *, name: str, out: Path | None = None, resume: bool = False) -> RunFolder:
    """Return the folder to work in; without `resume` an unfinished run is never touched."""
    if out is not None:
        with disk_errors(out):
            return _asked_for(recipe, out, resume=resume)
    if resume:
        for run in runs_of(runs_dir(), name):
            if same_recipe(run, recipe):
                return run
    return new_run(runs_dir(), name)


def _asked_for(recipe: Recipe, out: Path, *, resume: bool) -> RunFolder:
    run = RunFolder(out)
    if not run.is_run:
        _refuse_foreign(run)
        return run
    if not same_recipe(run, recipe):
        hint = "choose another folder with `--out`"
        raise RecipeError("this folder holds a run of another recipe", where={"out": out}, hint=hint)
    if not resume and not finished(run):
        hint = "add `--resume` to go on with it, or choose another folder with `--out`"
        raise RecipeError("this folder holds an unfinished run", where={"out": out}, hint=hint)
    return run


def _refuse_foreign(run: RunFolder) -> None:
    out = run.path
    if out.is_file():
        raise RecipeError("this is a file, not a folder", where={"out": out}, hint="choose another `--out`")
    # A run that was killed at once has left a lock and an empty log.
    if out.is_dir() and any(not path.name.startswith(".") and path != run.events for path in out.iterdir()):
        hint = "choose an empty or a new folder with `--out`"
        raise RecipeError("this folder holds something that is no run", where={"out": out}, hint=hint)


def finished(run: RunFolder) -> bool:
    """Tell whether the last room of a run is done."""
    return run.manifest.exists() and Manifest.read(run.manifest).finished_at is not None
