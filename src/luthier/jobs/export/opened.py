"""Open an export: its files are checked against the manifest, then its own engine loads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.errors import ModelError, RecipeError
from luthier.core.events import Emit, Event
from luthier.export.manifest import Manifest, check_files, read_manifest
from luthier.jobs.export.forms import engine_for, has_target, model_folder
from luthier.serve.engines.open import EngineName, open_adapter, open_engine
from luthier.serve.request import Engine
from luthier.serve.spec import ServeSpec

if TYPE_CHECKING:
    from luthier.model.render import Page
    from luthier.model.template import Template


@dataclass(frozen=True)
class Opened:
    """An export in its engine."""

    folder: Path
    manifest: Manifest
    engine: Engine
    engine_name: EngineName
    template: "Template"
    own_adapter: Path | None = None
    """The adapter that the export itself is."""

    def adapter(self, name: str | None = None) -> Path | None:
        """Return the file of one of its adapters; RecipeError where it has none of this name."""
        if name is None:
            return self.own_adapter
        known = self.manifest.adapters
        if name not in known:
            hint = f"it has {', '.join(known)}" if known else "only an export with `--adapters` has any"
            raise RecipeError(f"this export has no adapter `{name}`", where={"export": self.folder}, hint=hint)
        return self.folder / known[name]


def open_export(
    folder: Path,
    spec: ServeSpec | None = None,
    *,
    render: "Callable[[Page], str] | None" = None,
    emit: Emit = lambda event: None,
) -> Opened:
    """Check an export's files and load it, in its own engine or in the one that the spec names."""
    from luthier.model.base import resolve_base
    from luthier.model.checks import read_json
    from luthier.model.load import load_tokenizer
    from luthier.model.template import Template

    manifest = read_manifest(folder)
    emit(Event(room="serve", kind="progress", message="checking the export's files"))
    check_files(folder, manifest)
    form = manifest.form
    if form.target != "cpu" and not has_target(form.target):
        why = f"it was built for {form.target}, and ONNX Runtime finds none"
        raise ModelError("this export does not run on this machine", where={"export": folder}, why=why)
    spec = spec or ServeSpec()
    name = spec.engine or engine_for(form)
    model, own = model_folder(form, folder), None
    if form.name == "adapter":
        # The recipe's own word for the base, which may be a folder of this machine.
        name_of_base = str(read_json(folder / "adapter_config.json").get("base_model_name_or_path"))
        base = resolve_base(name_of_base, emit)
        if base.weights_sha256 != manifest.base_weights_sha256:
            why = f"`{name_of_base}` has other weights here than it was trained on"
            raise ModelError("this adapter is for another base", where={"export": folder}, why=why)
        model, own = base.folder, folder
    emit(Event(room="serve", kind="progress", message=f"loading it in {name}"))
    if own is None or name != "transformers":
        loaded = open_engine(name, model, spec)
    else:
        loaded, own = open_adapter(model, own, spec)
    return Opened(folder, manifest, loaded, name, Template(load_tokenizer(model), render), own)
