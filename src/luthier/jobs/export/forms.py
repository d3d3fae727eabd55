"""Build a form, and open it in the engine that its users will run it in."""

import importlib.metadata
import importlib.util
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from luthier.core.errors import RecipeError
from luthier.export.spec import ExportName, Form, form_of
from luthier.jobs.export.source import Source
from luthier.serve.engines.open import EngineName, missing
from luthier.serve.request import Engine
from luthier.serve.spec import ServeSpec

Result = TypeVar("Result")
NEEDED_FOR_ONNX = ("onnxruntime_genai", "onnxruntime", "onnx", "onnx_ir")
MODEL = "model"
"""The model's folder within a bundle."""
PACKAGES: dict[EngineName, str] = {
    "transformers": "transformers",
    "onnx": "onnxruntime-genai",
    "llama.cpp": "xllamacpp",
}
BESIDE = ("config.json", "generation_config.json")
"""What Luthier reads of any model's folder; forms that do not need them get the merged model's."""


def engine_for(form: Form) -> EngineName:
    """Return the engine that runs a form."""
    if form.name.startswith("onnx"):
        return "onnx"
    return "llama.cpp" if form.name.startswith("gguf") else "transformers"


def check_forms(forms: tuple[Form, ...], source: Source) -> None:
    """Refuse before the work what cannot be."""
    for form in forms:
        if form.name == "adapter" and not source.is_adapter:
            why = f"`{source.adapter}` trains the model's own weights" if source.weights else "this is a base model"
            hint = "write `export: [merged]`, or `--to merged`"
            raise RecipeError(f"there is no adapter to export: {why}", where={"field": "export"}, hint=hint)
        if form.name != "adapter" and (why := source.unmergeable):
            what = f"`{form.name}` cannot be made of this adapter"
            hint = "write `export: [adapter]`, or `--to adapter`"
            raise RecipeError(what, where={"field": "export"}, why=why, hint=hint)


def check_packages(forms: Sequence[ExportName | Form]) -> None:
    """Refuse forms whose packages are not installed, before any long work."""
    for form in map(form_of, forms):
        needed = NEEDED_FOR_ONNX if form.name.startswith("onnx") else ()
        absent = [name for name in needed if importlib.util.find_spec(name) is None]
        if absent:
            why, hint = f"{', '.join(absent)} is missing", "pip install 'luthier[onnx]'"
            raise RecipeError(f"`{form.name}` cannot be built here", where={"field": "export"}, why=why, hint=hint)


def build(form: Form, source: Source, merged: Callable[[], Path], out: Path) -> None:
    """Write a form's files into an empty folder; `merged` gives the merged model's folder where it is needed."""
    if form.name == "adapter":
        from luthier.export.formats.adapter import build as build_adapter

        build_adapter(source.weights or out, out)
        return
    if form.name == "bundle":
        from luthier.export.formats.bundle import build as build_bundle

        build_bundle(merged(), out, name=source.name, licence=source.base.licence, base_model=source.base.title)
    elif form.name == "merged":
        from luthier.export.formats.merged import build as build_merged

        build_merged(form, merged(), out)
    elif form.name.startswith("onnx"):
        from luthier.export.formats.onnx import build as build_onnx

        build_onnx(form, merged(), out)
    else:
        from luthier.export.formats.gguf import build as build_gguf

        build_gguf(form, merged(), out)
    copy_beside(merged(), model_folder(form, out))


def copy_beside(merged: Path, out: Path) -> None:
    """Put beside a form's own files what Luthier reads of any model's folder."""
    for name in BESIDE:
        if not (out / name).exists() and (merged / name).exists():
            shutil.copyfile(merged / name, out / name)


def why_not_here(form: Form) -> str | None:
    """Return why a form cannot be run on this machine, or None where it can."""
    if form.target != "cpu" and not has_target(form.target):
        return f"this machine has no {form.target} for ONNX Runtime"
    hint = missing(engine_for(form))
    return f"its engine is not installed: {hint}" if hint else None


def has_target(target: str) -> bool:
    """Whether ONNX Runtime GenAI finds a device of this kind."""
    try:
        import onnxruntime_genai as genai
    except ImportError:
        return False
    found = {"cuda": genai.is_cuda_available, "dml": genai.is_dml_available, "webgpu": genai.is_webgpu_available}
    return target in found and bool(found[target]())


def open_form(form: Form, folder: Path, source: Source, spec: ServeSpec | None = None) -> tuple[Engine, Path | None]:
    """Open a form in its engine; with it, the adapter to ask with."""
    from luthier.serve.engines.open import open_adapter, open_engine

    spec = spec or ServeSpec()
    if form.name == "adapter":
        return open_adapter(source.base.folder, folder, spec)
    return open_engine(engine_for(form), model_folder(form, folder), spec), None


def model_folder(form: Form, folder: Path) -> Path:
    """Return where in a form's folder the model's own files lie."""
    return folder / MODEL if form.name == "bundle" else folder


def engine_title(name: EngineName) -> str:
    """Return an engine's name with the version of its library."""
    try:
        version = importlib.metadata.version(PACKAGES[name])
    except importlib.metadata.PackageNotFoundError:
        return name
    return f"{name} ({PACKAGES[name]} {version})"


def in_a_thread(work: Callable[[], Result]) -> Result:
    """Compute in a thread that ends.

    OpenMP keeps helpers for each thread that computed. With those of an engine's thread they are more than the cores,
    and then all of them sleep between any two products.
    """
    with ThreadPoolExecutor(1, "export") as thread:
        return thread.submit(work).result()
