"""What `luthier run` is given: a recipe, or with `--config` a file of Olive's or AutoTrain's."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli.tell import put, say
from luthier.core.errors import RecipeError

if TYPE_CHECKING:
    from luthier.jobs.doors.config import Config


@dataclass(frozen=True)
class Given:
    """A file to run, and where it is not a recipe what it was translated to."""

    file: Path
    overrides: tuple[str, ...]
    config: "Config | None" = None

    @property
    def is_foreign(self) -> bool:
        """Whether the file is another program's."""
        return self.config is not None and self.config.kind != "recipe"

    def tell_missing(self) -> None:
        """Say which packages the recipe needs that are not installed; nothing is installed or run."""
        from luthier.jobs.doors.config import missing_packages
        from luthier.recipe_io.read import load_recipe

        recipe = self.config.recipe if self.config else load_recipe(self.file, self.overrides)
        missing = missing_packages(recipe)
        for name in missing:
            put(name)
        say("nothing was installed: `pip install` them" if missing else "every package that this needs is installed")

    def run(self, *, out: Path | None, resume: bool, as_json: bool) -> None:
        """Run what the file was translated to, in the folder it names, or else in `runs`."""
        from luthier.cli.translated import run_translated
        from luthier.jobs.doors.draft import Translated

        assert self.config is not None  # noqa: S101 (asked only of foreign files)
        say(f"{self.file} is a file of {self.config.kind}")
        translated = Translated(self.config.recipe, self.config.remarks)
        run_translated(translated, self.file.stem, out=out or self.config.out, resume=resume, as_json=as_json)


def recipe_or_config(
    recipe: Path | None, config: Path | None, overrides: tuple[str, ...], *, applied: str | None
) -> Given:
    """Return the one file that is named."""
    if (recipe is None) == (config is None):
        what = "no recipe is named" if recipe is None else "a recipe and `--config` are both named"
        raise RecipeError(what, hint="`luthier run recipe.yaml`, or `luthier run --config olive-config.yaml`")
    if recipe is not None:
        return Given(recipe, overrides)
    from luthier.jobs.doors.config import read_config

    assert config is not None  # noqa: S101 (one of the two is named)
    read = read_config(config, overrides)
    if read.kind != "recipe" and applied:
        hint = "run it once; its run folder has a recipe.yaml, to which `--apply` can be given"
        raise RecipeError("`--apply` is for recipes", where={"--apply": applied}, hint=hint)
    return Given(config, overrides, read)
