"""A file of another program for `luthier run --config`: known by its keys, translated, and what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luthier.core.errors import RecipeError
from luthier.core.yaml import read_yaml
from luthier.jobs.doors.autotrain import AutoTrainFile, is_autotrain
from luthier.jobs.doors.olive_config import KEYS, OliveFile
from luthier.recipe import Recipe
from luthier.recipe_io.read import load_recipe

SEARCH = ("search_space", "search_strategy")


@dataclass(frozen=True)
class Config:
    """What a file asks for."""

    kind: Literal["recipe", "Olive", "AutoTrain"]
    recipe: Recipe
    remarks: tuple[str, ...] = ()
    out: Path | None = None
    """The folder that the file names for its results."""


def read_config(file: Path, overrides: Sequence[str] = ()) -> Config:
    """Return what a file asks for: an Olive workflow, an AutoTrain file, or a recipe."""
    document = read_yaml(file)
    value = document.value
    if is_autotrain(value):
        foreign: AutoTrainFile | OliveFile = AutoTrainFile(document, file)
        kind: Literal["Olive", "AutoTrain"] = "AutoTrain"
    elif isinstance(value, dict) and any(key in value for key in KEYS):
        foreign, kind = OliveFile(document, file), "Olive"
    elif isinstance(value, dict) and any(key in value for key in SEARCH):
        hint = f"`luthier search recipe.yaml --space {file}`"
        raise RecipeError("this is a space to search, not a run", where={"file": file}, hint=hint)
    else:
        return Config("recipe", load_recipe(file, overrides))
    translated = foreign.translated(overrides)
    return Config(kind, translated.recipe, translated.remarks, foreign.out)


def missing_packages(recipe: Recipe) -> list[str]:
    """Return what `pip install` would bring for this recipe, beyond what is installed."""
    import importlib.util

    from luthier.export.spec import form_of
    from luthier.jobs.export.forms import NEEDED_FOR_ONNX, engine_for
    from luthier.jobs.trackers import PACKAGES
    from luthier.serve.engines.open import missing

    asked = (*(PACKAGES[name] for name in recipe.trackers), *recipe.train.optimizer.packages)
    needed = [name for name in asked if importlib.util.find_spec(name) is None]
    for form in map(form_of, recipe.export):
        if form.name.startswith("onnx"):
            needed += [name.replace("_", "-") for name in NEEDED_FOR_ONNX if importlib.util.find_spec(name) is None]
        elif missing(engine_for(form)):
            needed.append(str(missing(engine_for(form))))
    if recipe.evaluate and recipe.evaluate.harness and importlib.util.find_spec("lm_eval") is None:
        needed.append("lm-eval")
    return list(dict.fromkeys(needed))
