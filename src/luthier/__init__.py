"""Luthier: fine-tune language models on hardware you own, and prove whether it was worth it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.core.artifacts import Report
    from luthier.jobs.pipeline import RunResult
    from luthier.recipe import Recipe

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate_run", "load_recipe", "run"]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> "Recipe":
    """Return the recipe in a file, changed by words such as `train.epochs=2`."""
    from luthier.recipe_io.read import load_recipe as load

    return load(Path(path), overrides)


def run(
    recipe: "Recipe | str | Path", *, overrides: Sequence[str] = (), out: str | Path | None = None, resume: bool = False
) -> "RunResult":
    """Do what `luthier run` does, and return what was made; a Recipe object takes no overrides."""
    from luthier.jobs.door import run as work

    return work(recipe, overrides=overrides, out=out, resume=resume)


# Not `evaluate`: that is the name of the package beside this file, which an import would put in its place.
def evaluate_run(run: str | Path, *, overrides: Sequence[str] = ()) -> "Report":
    """Measure a trained run as `luthier evaluate` does; overrides may set `evaluate.…`."""
    from luthier.jobs.door import evaluate as work

    return work(run, overrides=overrides)
