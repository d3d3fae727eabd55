"""Export: build each form, run it, certify it, and give it its name only then."""

import contextlib
import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.core.artifacts import HEAD_KINDS, Exported, Exports, Trained
from luthier.core.certificate import Certificate
from luthier.core.errors import LuthierError
from luthier.core.events import Emit, Event
from luthier.core.files import begun_folder, settle_folder, sha256_of_json
from luthier.export.manifest import Manifest, hashes, write_manifest
from luthier.export.spec import ExportName, Form, form_of
from luthier.jobs.export.certify import certify, limits_of, not_run
from luthier.jobs.export.forms import (
    build,
    check_forms,
    engine_for,
    engine_title,
    in_a_thread,
    model_folder,
    open_form,
    why_not_here,
)
from luthier.jobs.export.heads import export_heads
from luthier.jobs.export.said import Said, say
from luthier.jobs.export.source import Most, Source, source_of_run
from luthier.jobs.export.versions import versions

FAILED = "failed"
"""The folder of exports that did not pass."""
IN_A_RUN = Most(32, tokens=2048)
"""Held-out prompts that certify the exports of a run; `luthier export` takes all."""
MAX_DROP = 0.01


@dataclass(frozen=True)
class Terms:
    """On which terms an export passes."""

    max_drop: float = MAX_DROP
    """How much worse a quantised form's metric may be."""
    allow_failed: bool = False
    """Export also what did not pass, and write down that it was allowed."""


class ExportFailedError(LuthierError):
    """An export does not say what the tuned model says."""

    code = "export_failed"
    exit_status = 7


def run(asked: Sequence[ExportName | Form], given: Trained, out: Path, emit: Emit, *, card: str = "") -> Exports:
    """Write a run's model in each form asked for; raise ExportFailedError where one does not say the same."""
    if given.prepared.answer_kind in HEAD_KINDS or given.prepared.base.kind == "encoder-decoder":
        return export_heads(asked, given, out, emit, card=card)
    source = source_of_run(given, None, emit, prompts=IN_A_RUN)
    forms = tuple(form_of(one) for one in asked)
    made = export_forms(source, forms, out, emit, card=card)
    refuse_failed(made)
    emit(Event(room="export", kind="done", message=f"{len(made)} certified"))
    return Exports(folder=out, exported=made).write(out)


def refuse_failed(made: Sequence[Exported]) -> None:
    """Raise for the first export that did not pass."""
    for one in made:
        for name, certificate in one.certificates.items():
            if certificate.result == "failed" and one.folder.parent.name == FAILED:
                of = "" if name == "model" else f" with the adapter `{name}`"
                why = "; ".join(certificate.reasons) + _shown(certificate)
                hint = "choose a wider form or raise --max-drop; --allow-failed exports it all the same"
                raise ExportFailedError(
                    f"the {one.format} form{of} does not say what the tuned model says",
                    where={"kept": one.folder},
                    why=why,
                    hint=hint,
                )


def _shown(certificate: Certificate) -> str:
    differs = certificate.differs
    if differs is None:
        return ""
    return f"\n  first     {differs.check}: {differs.expected!r} became {differs.got!r}"


def export_forms(
    source: Source, forms: Sequence[Form], out: Path, emit: Emit, *, terms: Terms | None = None, card: str = ""
) -> list[Exported]:
    """Build, certify and name each form; one that does not pass is kept in `failed/`."""
    check_forms(tuple(forms), source)
    out.mkdir(parents=True, exist_ok=True)
    said = in_a_thread(lambda: say(source, emit))
    with Merging(source, out, emit) as merging:
        return [export_form(source, form, said, merging, terms or Terms(), card) for form in forms]


class Merging:
    """The merged model in a folder that vanishes at the end: what all other forms are built from."""

    def __init__(self, source: Source, out: Path, emit: Emit) -> None:
        self.source, self.out, self.emit = source, out, emit
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Merging":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @functools.cached_property
    def folder(self) -> Path:
        """The merged model's folder, written when first asked for."""
        from luthier.export.formats.merged import write_merged

        self.emit(Event(room="export", kind="progress", message="merging the tuned weights into the base"))
        folder = self._stack.enter_context(begun_folder(self.out / "merging"))
        in_a_thread(lambda: write_merged(self.source.base.folder, self.source.weights, folder))
        return folder


def export_form(source: Source, form: Form, said: Said, merging: Merging, terms: Terms, card: str) -> Exported:
    """Build a form, certify it, and give it its name."""
    emit = merging.emit
    emit(Event(room="export", kind="progress", message=f"writing the {form.title} model"))
    with begun_folder(merging.out / form.title) as folder:
        build(form, source, lambda: merging.folder, folder)
        certificate = _certified(source, form, said, folder, terms, emit)
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
        return settle(source, form, folder, merging.out, {"model": certificate}, terms)


def _certified(source: Source, form: Form, said: Said, folder: Path, terms: Terms, emit: Emit) -> Certificate:
    why = why_not_here(form)
    if why:
        return not_run(source, why)
    limits = limits_of(form.name, max_drop=terms.max_drop)
    title = engine_title(engine_for(form))
    try:
        engine, adapter = open_form(form, folder, source)
    except LuthierError as error:
        reason = f"its engine cannot load it: {error.what}" + (f": {error.why}" if error.why else "")
        return Certificate(result="failed", reasons=(reason,), engine=title, prompts=source.asked.what)
    try:
        words = None if form.name == "adapter" else model_folder(form, folder)
        return certify(source, said, engine, limits, title=title, adapter=adapter, emit=emit, folder=words)
    finally:
        engine.close()


def settle(  # noqa: PLR0913 (a manifest says much)
    source: Source,
    form: Form,
    folder: Path,
    out: Path,
    certificates: Mapping[str, Certificate],
    terms: Terms,
    *,
    title: str | None = None,
    adapters: Mapping[str, str] | None = None,
) -> Exported:
    """Hash a finished form, write its manifest, and give it its name: aside where it did not pass."""
    title = title or form.title
    files, size = hashes(folder)
    failed = any(one.result == "failed" for one in certificates.values())
    manifest = Manifest(
        format=title,
        form=form,
        files=files,
        bytes=size,
        template_sha256=source.template.sha256,
        prompts_sha256=sha256_of_json([question.ids for question in source.asked.questions]),
        base_model=source.base.title,
        base_weights_sha256=source.base.weights_sha256,
        licence=source.base.licence,
        tuned_weights_sha256=source.weights_sha256,
        data_sha256=source.data_sha256,
        run=source.run,
        adapters=dict(adapters or {}),
        versions=versions(),
        certificates=dict(certificates),
        allowed_failed=failed and terms.allow_failed,
        manner=source.manner,
    )
    write_manifest(folder, manifest)
    aside = out / FAILED / title
    at = aside if failed and not terms.allow_failed else out / title
    settle_folder(folder, at)
    if at != aside:
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(folder=at, format=title, files=files, bytes=size, certificates=dict(certificates))
