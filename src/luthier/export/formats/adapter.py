"""`adapter`: the small trained weights alone, in PEFT's own format."""

import shutil
from pathlib import Path

from luthier.core.artifacts import Exported, Trained
from luthier.core.errors import RecipeError
from luthier.core.files import whole_folder
from luthier.export.formats.manifest import seal

FILES = ("adapter_config.json", "adapter_model.safetensors")


def export(given: Trained, out: Path, *, card: str) -> Exported:
    """Copy what training wrote; PEFT loads it onto the base model."""
    if given.adapter == "full":
        hint = "write `export: [merged]`"
        raise RecipeError(
            "there is no adapter to export: `full` trains all weights", where={"field": "export"}, hint=hint
        )
    with whole_folder(out) as folder:
        for name in FILES:
            shutil.copyfile(given.weights / name, folder / name)
        (folder / "README.md").write_text(card, encoding="utf-8")
        return seal(folder, given, name="adapter", proof=None, at=out)
