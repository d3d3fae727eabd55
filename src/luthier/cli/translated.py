"""Run what another program's options or file were translated to: shown first, kept in the run folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from luthier.cli.tell import put, put_json, say
from luthier.core.files import disk_errors

if TYPE_CHECKING:
    from luthier.jobs.doors.draft import Translated


def tell_translated(translated: "Translated") -> None:
    """Say the recipe, and what was answered."""
    from luthier.jobs.doors.draft import as_text

    for remark in translated.remarks:
        say(remark)
    say("as a recipe:")
    for line in as_text(translated.recipe).splitlines():
        say(f"  {line}")


def run_translated(
    translated: "Translated",
    name: str,
    *,
    out: Path | None,
    resume: bool,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Say the recipe, run it, and put `adapter` and `model` beside it, as Olive does."""
    from luthier.cli.run import put_result, result_json, tuned
    from luthier.jobs.choose import choose_folder
    from luthier.jobs.doors.layout import olive_layout

    tell_translated(translated)
    folder = choose_folder(translated.recipe, name=name, out=out, resume=resume)
    result = tuned(translated.recipe, folder, quiet=quiet)
    with disk_errors(folder.path):
        placed = olive_layout(folder.path, result.trained)
    if as_json:
        put_json(result_json(result))
        return
    put_result(result, folder.path)
    for name_, path in placed.items():
        put(f"{name_}: {path}")
    put(f"recipe: {folder.recipe}")
