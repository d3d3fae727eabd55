"""Exports of models with a head and of encoder-decoders: the merged model or the adapter, loaded again and compared.

Of both the numbers are compared: what a head says, and the logits that predict each token of a target.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.artifacts import Exported, Exports, Trained
from luthier.core.certificate import Certificate, Difference, Share
from luthier.core.errors import RecipeError
from luthier.core.events import Emit, Event
from luthier.core.files import begun_folder, settle_folder, sha256_of_json
from luthier.export.manifest import Manifest, hashes, write_manifest
from luthier.export.spec import ExportName, Form, form_of
from luthier.jobs.export.versions import versions

if TYPE_CHECKING:
    from luthier.examples.store import Encoded
    from luthier.model.headcard import HeadCard
    from luthier.model.headstep import Logits

ASKED = 32
"""Held-out rows that prove an export."""
TOLERANCE = 1e-4
"""How far an output may be off where updates were added into the weights, in fp32."""
FORMS = ("merged", "adapter")
WHOLE = ("full",)


def export_heads(
    asked: Sequence[ExportName | Form], given: Trained, out: Path, emit: Emit, *, card: str = ""
) -> Exports:
    """Write a run's model with its head in each form asked for, each loaded again and proved."""
    forms = tuple(form_of(one) for one in asked)
    _check(forms, given)
    out.mkdir(parents=True, exist_ok=True)
    rows = _rows(given)
    expected = _said(given, given.weights, rows)
    made = [_export(form, given, out, emit, rows=rows, expected=expected, card=card) for form in forms]
    emit(Event(room="export", kind="done", message=f"{len(made)} certified"))
    return Exports(folder=out, exported=made).write(out)


def _check(forms: Sequence[Form], given: Trained) -> None:
    for form in forms:
        if form.name not in FORMS:
            why = "engines of that form only go on with a text"
            hint = "write `export: [merged]`, or `--to merged`"
            whose = "an encoder-decoder" if _writes(given) else "a model with a head"
            what = f"{whose} cannot be exported as `{form.name}`"
            raise RecipeError(what, where={"field": "export"}, why=why, hint=hint)
        if form.name == "adapter" and given.adapter in WHOLE:
            hint = "write `export: [merged]`, or `--to merged`"
            raise RecipeError(
                "there is no adapter to export: all weights were trained", where={"field": "export"}, hint=hint
            )


def _rows(given: Trained) -> "list[Encoded]":
    from luthier.examples.store import Split

    splits = [Split(given.prepared.split(name)) for name in ("test", "validation", "train")]
    split = next(split for split in splits if len(split))
    rows = [split.encoded(row) for row in range(min(ASKED, len(split)))]
    if _writes(given):
        return rows
    card = _head(given.weights)
    if card.kind != "quote":
        return rows
    from luthier.model.quoting import card_windows

    return [window.row for row in rows for window in card_windows(row, card)]


def _said(given: Trained, weights: Path, rows: "list[Encoded]") -> "list[Logits]":
    from luthier.model.adapter import load_tuned
    from luthier.model.seq2seq import target_logits
    from luthier.model.vectors import outputs_of, step_for

    tuned = load_tuned(given.prepared.base.folder, weights)
    return target_logits(tuned, rows) if _writes(given) else outputs_of(step_for(tuned, _head(weights)), rows)


def _writes(given: Trained) -> bool:
    """Tell an encoder-decoder, whose outputs are the logits of the target's tokens, from a model with a head."""
    return given.prepared.base.kind == "encoder-decoder"


def _head(weights: Path) -> "HeadCard":
    from luthier.core.errors import CheckpointError
    from luthier.model.headcard import HeadCard

    card = HeadCard.read(weights)
    if card is None:
        raise CheckpointError("the weights have no head", where={"folder": weights}, hint="train it again")
    return card


def _export(  # noqa: PLR0913 (each is said once)
    form: Form,
    given: Trained,
    out: Path,
    emit: Emit,
    *,
    rows: "list[Encoded]",
    expected: "list[Logits]",
    card: str,
) -> Exported:
    emit(Event(room="export", kind="progress", message=f"writing the {form.title} model"))
    with begun_folder(out / form.title) as folder:
        _write(form, given, folder)
        certificate = _certified(given, folder, rows, expected)
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
        files, size = hashes(folder)
        write_manifest(folder, _manifest(form, given, files, size, certificate, rows))
        settle_folder(folder, out / form.title)
    certificates = {"model": certificate}
    return Exported(folder=out / form.title, format=form.title, files=files, bytes=size, certificates=certificates)


def _write(form: Form, given: Trained, folder: Path) -> None:
    from luthier.export.formats.headed import write_headed
    from luthier.export.formats.vectored import write_vectored
    from luthier.model.headcard import FILE

    if form.name == "adapter":
        from luthier.export.formats.adapter import build

        build(given.weights, folder)
    elif not _writes(given) and _head(given.weights).is_vector:
        write_vectored(given.prepared.base.folder, given.weights, folder)
    else:
        write_headed(given.prepared.base.folder, given.weights, folder)
    if not _writes(given):
        shutil.copyfile(given.weights / FILE, folder / FILE)


def _certified(given: Trained, folder: Path, rows: "list[Encoded]", expected: "list[Logits]") -> Certificate:
    """Return whether the folder, loaded anew, gives the same numbers; raise where it does not."""
    import numpy as np

    from luthier.jobs.export.export import ExportFailedError

    got = _said(given, folder, rows)
    worst = [float(np.abs(a - b).max(initial=0.0)) for a, b in zip(expected, got, strict=True)]
    same = sum(one <= TOLERANCE for one in worst)
    if same < len(rows):
        row = int(np.argmax(worst))
        reason = f"an output of row {row + 1} is off by {worst[row]:.2g}"
        differs = Difference(check="outputs", prompt=f"row {row + 1}", expected=str(expected[row]), got=str(got[row]))
        what = "the export does not say what the tuned model says"
        why = f"{reason}: {differs.expected} became {differs.got}"
        raise ExportFailedError(what, where={"folder": folder}, why=why, hint="report it, please")
    asked = f"{len(rows)} held-out texts, every output within {TOLERANCE:g}"
    return Certificate(result="passed", engine="transformers", prompts=asked, answers=Share(count=same, of=len(rows)))


def _manifest(
    form: Form, given: Trained, files: dict[str, str], size: int, certificate: Certificate, rows: "list[Encoded]"
) -> Manifest:
    from luthier.model.bitext import Bitext
    from luthier.model.load import load_tokenizer
    from luthier.model.reader import Reader

    base = given.prepared.base
    words = (Bitext if _writes(given) else Reader)(load_tokenizer(base.folder))
    return Manifest(
        format=form.title,
        form=form,
        files=files,
        bytes=size,
        template_sha256=words.sha256,
        prompts_sha256=sha256_of_json([row.ids for row in rows]),
        base_model=base.title,
        base_weights_sha256=base.weights_sha256,
        licence=base.licence,
        tuned_weights_sha256=given.weights_sha256,
        data_sha256=given.prepared.data_sha256,
        run=given.folder.parent.name,
        versions=versions(),
        certificates={"model": certificate},
    )
