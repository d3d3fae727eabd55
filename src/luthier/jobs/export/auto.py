"""`--to auto`: try forms from the smallest up, measure each, and keep the smallest that stays within the drop."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, ConfigDict

from luthier.core.artifacts import Exported, Prepared
from luthier.core.certificate import Certificate
from luthier.core.events import Emit, Event
from luthier.core.files import begun_folder, settle_folder
from luthier.export.spec import Form
from luthier.jobs.export.export import ExportFailedError, Merging, Terms, export_form
from luthier.jobs.export.forms import check_packages, in_a_thread, why_not_here
from luthier.jobs.export.said import Said, say
from luthier.jobs.export.sensitivity import sensitivity
from luthier.jobs.export.source import Source
from luthier.model.checks import read_json

WIDER_SHARES = (4, 2)
"""One part in so many keeps more bits, where plain 4 bits do not do."""


class Tried(BaseModel):
    """A form that was measured."""

    model_config = ConfigDict(frozen=True)

    format: str
    bytes: int
    certificate: Certificate


class Smallest(TypedDict):
    """What `auto` found."""

    exported: list[Exported]
    tried: list[Tried]
    chosen: str


@dataclass(frozen=True)
class _Search:
    """What all forms are measured with."""

    source: Source
    said: Said
    merging: Merging
    terms: Terms
    card: str

    def measure(self, form: Form) -> Exported:
        """Build and certify a form."""
        return export_form(self.source, form, self.said, self.merging, self.terms, self.card)


def export_smallest(
    source: Source, prepared: Prepared | None, out: Path, emit: Emit, *, max_drop: float, card: str = ""
) -> Smallest:
    """Return the smallest form that stays within the drop, and everything that was measured on the way.

    Forms come in groups of about the same size, the smallest first; the first group of which one passes decides.
    Between 4 and 8 bits, the parts whose loss rises most keep more bits; that needs rows to measure a loss on.
    """
    out.mkdir(parents=True, exist_ok=True)
    tried: list[Tried] = []
    with begun_folder(out / "auto") as work:
        search = _Search(
            source, in_a_thread(lambda: say(source, emit)), Merging(source, work, emit), Terms(max_drop), card
        )
        with search.merging:
            best = _smallest(search, _groups(source, prepared, emit), tried)
        if best is not None:
            return _kept(best, out, tried, emit)
    why = "; ".join(f"{one.format}: {one.certificate.reasons[0]}" for one in tried)
    raise ExportFailedError("no form stays within the drop", why=why, hint="raise --max-drop, or name a form")


def _smallest(search: _Search, groups: Iterator[Sequence[Form]], tried: list[Tried]) -> Exported | None:
    """Measure group after group; return the smallest form of the first of which one passes."""
    for group in groups:
        made = [search.measure(form) for form in group if why_not_here(form) is None]
        tried += map(_tried, made)
        passed = [one for one in made if one.certificates["model"].result == "passed"]
        if passed:
            return min(passed, key=lambda one: one.bytes)
        for one in made:
            shutil.rmtree(one.folder)
    return None


def _tried(one: Exported) -> Tried:
    return Tried(format=one.format, bytes=one.bytes, certificate=one.certificates["model"])


def _kept(best: Exported, out: Path, tried: list[Tried], emit: Emit) -> Smallest:
    at = out / best.format
    settle_folder(best.folder, at)
    largest = max(tried, key=lambda one: one.bytes)
    beside = f", of {len(tried)} measured" if len(tried) > 1 else ""
    measured = best.certificates["model"].measured
    drop = f"; its {measured.metric} changes by {measured.difference:+.3f}" if measured else ""
    chosen = f"chosen: {best.format}, {best.bytes / 1e6:,.0f} MB, the smallest that passes{beside}{drop}"
    if largest.bytes > best.bytes:
        chosen += f" (the largest: {largest.format}, {largest.bytes / 1e6:,.0f} MB)"
    emit(Event(room="export", kind="note", message=chosen))
    return Smallest(exported=[best.model_copy(update={"folder": at})], tried=tried, chosen=chosen)


def _groups(source: Source, prepared: Prepared | None, emit: Emit) -> Iterator[Sequence[Form]]:
    """Yield forms in groups of about the same size, as far as their packages are here."""
    yield _here(Form(name="onnx-int4"), Form(name="onnx-int4", algorithm="k_quant"), Form(name="gguf-q4_0"))
    if prepared is not None and _here(Form(name="onnx-int4")):
        emit(Event(room="export", kind="progress", message="plain 4 bits do not do: looking for the parts that suffer"))
        worst = list(in_a_thread(lambda: sensitivity(source, prepared, emit)))
        for share in WIDER_SHARES:
            wider = tuple(sorted(worst[: max(1, len(worst) // share)]))
            yield [Form(name="onnx-int4", algorithm="k_quant", wider=wider)]
        if not read_json(source.base.folder / "config.json").get("tie_word_embeddings"):
            # All matrices in 8 bits, only the embeddings in 4: an int8 model keeps those whole.
            yield [Form(name="onnx-int4", wider=tuple(worst))]
    yield _here(Form(name="onnx-int8"), Form(name="gguf-q8_0"))
    yield _here(Form(name="onnx"), Form(name="gguf"), Form(name="merged"))


def _here(*forms: Form) -> list[Form]:
    """Return the forms that can be built on this machine."""
    from luthier.core.errors import RecipeError

    found = []
    for form in forms:
        try:
            check_packages((form,))
        except RecipeError:
            continue
        found.append(form)
    return found
