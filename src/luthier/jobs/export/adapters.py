"""One ONNX model with several adapters that it switches between, each certified."""

from collections.abc import Sequence
from pathlib import Path

from luthier.core.artifacts import Exported
from luthier.core.certificate import Certificate
from luthier.core.errors import RecipeError
from luthier.core.events import Emit, Event
from luthier.core.files import begun_folder
from luthier.export.spec import Form
from luthier.jobs.export.certify import certify, limits_of, not_run
from luthier.jobs.export.export import Merging, Terms, settle
from luthier.jobs.export.forms import copy_beside, engine_title, in_a_thread, open_form, why_not_here
from luthier.jobs.export.said import say
from luthier.jobs.export.source import Source, names_of

BASE = "base"
"""The certificate of the model without any adapter."""
WITH_ADAPTERS = "adapters"


def export_with_adapters(
    whole: Source, sources: Sequence[Source], form: Form, out: Path, terms: Terms, emit: Emit
) -> Exported:
    """Write the base once with its adapters beside it; `whole` is the base, `sources` are the tuned models."""
    if not form.name.startswith("onnx"):
        hint = "take `--to onnx`, `onnx-int8` or `onnx-int4`, or one adapter at a time"
        raise RecipeError(f"`{form.name}` does not switch between adapters", where={"option": "--adapters"}, hint=hint)
    for source in sources:
        if not source.is_adapter:
            what = f"`{source.name}` is no adapter: all weights were trained"
            raise RecipeError(what, where={"option": "--adapters"}, hint="export it by itself")
    from luthier.export.formats.onnx import build_with_adapters

    out.mkdir(parents=True, exist_ok=True)
    title = f"{form.title}-{WITH_ADAPTERS}"
    named = dict(zip(names_of(sources), sources, strict=True))
    with Merging(whole, out, emit) as merging, begun_folder(out / title) as folder:
        emit(Event(room="export", kind="progress", message=f"writing the {title} model"))
        weights = {name: source.weights for name, source in named.items() if source.weights is not None}
        build_with_adapters(form, merging.folder, weights, folder)
        copy_beside(merging.folder, folder)
        files = {name: f"adapters/{name}.onnx_adapter" for name in named}
        certificates = _certificates(whole, named, files, form, folder, terms, emit)
        return settle(whole, form, folder, out, certificates, terms, title=title, adapters=files)


def _certificates(  # noqa: PLR0913 (what is compared, and how)
    whole: Source,
    named: dict[str, Source],
    files: dict[str, str],
    form: Form,
    folder: Path,
    terms: Terms,
    emit: Emit,
) -> dict[str, Certificate]:
    asked = {BASE: whole, **named}
    why = why_not_here(form)
    if why:
        return {name: not_run(source, why) for name, source in asked.items()}
    said = {name: in_a_thread(lambda source=source: say(source, emit)) for name, source in asked.items()}
    engine, _ = open_form(form, folder, whole)
    limits, title = limits_of(form.name, max_drop=terms.max_drop), engine_title("onnx")
    try:
        return {
            name: certify(
                source,
                said[name],
                engine,
                limits,
                title=title,
                adapter=folder / files[name] if name in files else None,
                emit=emit,
            )
            for name, source in asked.items()
        }
    finally:
        engine.close()
