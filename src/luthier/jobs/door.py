"""What Python and the command line share: a recipe or a run by name in, typed results out."""

from collections.abc import Sequence
from pathlib import Path

from luthier.core.artifacts import Report
from luthier.core.errors import RecipeError
from luthier.core.runfolder import find_run
from luthier.core.settings import runs_dir
from luthier.jobs.choose import choose_folder, run_name
from luthier.jobs.pipeline import RunResult, evaluate_run, run_recipe
from luthier.recipe import Recipe
from luthier.recipe_io.read import load_recipe


def run(
    recipe: Recipe | str | Path, *, overrides: Sequence[str] = (), out: str | Path | None = None, resume: bool = False
) -> RunResult:
    """Run a recipe, given as an object or a file."""
    file = None if isinstance(recipe, Recipe) else Path(recipe)
    if file is None and overrides:
        raise RecipeError("a Recipe object takes no overrides", hint="change it with `recipe.model_copy(update=…)`")
    parsed = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe), overrides)
    folder = choose_folder(parsed, name=run_name(file), out=Path(out) if out else None, resume=resume)
    return run_recipe(parsed, folder)


def evaluate(run: str | Path, *, overrides: Sequence[str] = ()) -> Report:
    """Measure a trained run, given by its folder or its name."""
    return evaluate_run(find_run(str(run), runs_dir()), overrides=tuple(overrides))
