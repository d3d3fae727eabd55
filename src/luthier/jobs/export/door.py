"""What `luthier export` asks for: a run's model, a base with adapters, in given forms or in the best one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from luthier.core.artifacts import Base, Exported, Exports, Prepared, Trained
from luthier.core.errors import RecipeError
from luthier.core.events import Emit
from luthier.core.runfolder import RunFolder, find_run
from luthier.core.settings import runs_dir
from luthier.export.spec import Form
from luthier.jobs.export.adapters import export_with_adapters
from luthier.jobs.export.auto import Tried, export_smallest
from luthier.jobs.export.export import MAX_DROP, Terms, export_forms, refuse_failed
from luthier.jobs.export.forms import check_packages
from luthier.jobs.export.source import Most, Source, source_of_folder, source_of_run
from luthier.jobs.pipeline import trained_of
from luthier.jobs.predict import refuse_head
from luthier.jobs.prepare import saved_plan
from luthier.recipe import Plan
from luthier.train.spec import is_seq2seq

MOST_PROMPTS = 10_000


@dataclass(frozen=True)
class Wanted:
    """What a person asks for."""

    forms: tuple[Form, ...] | None
    """The forms to write; None for the smallest that stays within the drop."""
    run: str | None = None
    base: str | None = None
    adapters: tuple[str, ...] = ()
    max_drop: float = MAX_DROP
    prompts: int = MOST_PROMPTS
    allow_failed: bool = False
    out: Path | None = None


class ExportResult(BaseModel):
    """What was exported."""

    kind: Literal["export"] = "export"
    exported: list[Exported]
    tried: list[Tried] = []
    """Of `auto`: everything that was measured."""
    chosen: str | None = None
    """Of `auto`: which form, and why."""

    def raise_failed(self) -> None:
        """Raise ExportFailedError for the first form that did not pass, unless another one was chosen."""
        if self.chosen is None:
            refuse_failed(self.exported)


def export_wanted(wanted: Wanted, emit: Emit) -> ExportResult:
    """Export what is asked for."""
    if (wanted.run is None) == (wanted.base is None):
        hint = "`luthier export RUN --to …`, or `luthier export --base MODEL --adapters A,B --to onnx`"
        raise RecipeError("name a run, or a base model with `--base`", hint=hint)
    if wanted.adapters and wanted.base is None:
        raise RecipeError("`--adapters` go with `--base`", hint="a run has one adapter: its own")
    check_packages(wanted.forms or ())
    if wanted.base is not None:
        return _of_base(wanted, wanted.base, emit)
    folder = find_run(wanted.run or "", runs_dir())
    with folder.locked():
        result = _of_run(wanted, folder, emit)
        if wanted.out is None:
            _record(folder, result.exported)
    return result


def _of_run(wanted: Wanted, folder: RunFolder, emit: Emit) -> ExportResult:
    out = (wanted.out or folder.room("export")).absolute()
    plan = saved_plan(folder)
    if plan.train.method.heads or is_seq2seq(plan.train.method):
        return _of_head(wanted, plan, folder, out, emit)
    source, trained = run_source(folder, emit, prompts=wanted.prompts)
    card = folder.card.read_text(encoding="utf-8") if folder.card.exists() else ""
    return _exported(wanted, source, out, emit, card=card, prepared=trained.prepared)


def _of_head(wanted: Wanted, plan: Plan, folder: RunFolder, out: Path, emit: Emit) -> ExportResult:
    from luthier.jobs.export.heads import export_heads
    from luthier.model.base import resolve_base

    if wanted.forms is None:
        raise RecipeError("there is no smallest form of this model", hint="name one: `--to merged`, or `--to adapter`")
    trained = trained_of(folder, resolve_base(plan.base_model, emit))
    card = folder.card.read_text(encoding="utf-8") if folder.card.exists() else ""
    return ExportResult(exported=export_heads(wanted.forms, trained, out, emit, card=card).exported)


def _exported(
    wanted: Wanted, source: Source, out: Path, emit: Emit, *, card: str = "", prepared: Prepared | None = None
) -> ExportResult:
    if wanted.forms is None:
        return ExportResult(**export_smallest(source, prepared, out, emit, max_drop=wanted.max_drop, card=card))
    terms = Terms(max_drop=wanted.max_drop, allow_failed=wanted.allow_failed)
    return ExportResult(exported=export_forms(source, wanted.forms, out, emit, terms=terms, card=card))


def run_source(folder: RunFolder, emit: Emit, *, prompts: int) -> tuple[Source, Trained]:
    """Return a run's tuned model as the source of exports, and what training made."""
    from luthier.model.base import resolve_base

    plan = saved_plan(folder)
    refuse_head(plan, "be an adapter of a model that writes", where=folder.path)
    trained = trained_of(folder, resolve_base(plan.base_model, emit))
    template = plan.data.text_template
    return source_of_run(trained, plan.evaluate, emit, prompts=Most(prompts), text_template=template), trained


def _of_base(wanted: Wanted, name: str, emit: Emit) -> ExportResult:
    from luthier.model.base import resolve_base

    base = resolve_base(name, emit)
    if base.kind == "encoder-decoder":
        hint = "train it with `method: seq2seq`; a run's model is exported as `merged` or `adapter`"
        raise RecipeError("an encoder-decoder cannot be exported by itself", where={"model": name}, hint=hint)
    sources = [_of_adapter(text, base, wanted, emit) for text in wanted.adapters]
    out = (wanted.out or Path("exports") / Path(base.title).name).absolute()
    if len(sources) > 1 or (sources and _switches(wanted, sources[0])):
        if wanted.forms is None:
            raise RecipeError("`--to auto` takes one adapter", hint="name a form: `--to onnx`")
        terms = Terms(max_drop=wanted.max_drop, allow_failed=wanted.allow_failed)
        whole = source_of_folder(base, None)
        exported = [export_with_adapters(whole, sources, form, out, terms, emit) for form in wanted.forms]
        return ExportResult(exported=exported)
    return _exported(wanted, sources[0] if sources else source_of_folder(base, None), out, emit)


def _switches(wanted: Wanted, source: Source) -> bool:
    """Tell whether one adapter is to be switchable in an ONNX model: only plain LoRA can be; others are merged."""
    from luthier.serve.adapters import why_not_beside

    only_onnx = all(form.name.startswith("onnx") for form in wanted.forms or ())
    return only_onnx and source.weights is not None and why_not_beside(source.weights) is None


def _of_adapter(text: str, base: Base, wanted: Wanted, emit: Emit) -> Source:
    """Return a run's tuned adapter with its held-out prompts, or a folder's with general ones."""
    path = Path(text).expanduser()
    if (path / "adapter_config.json").is_file():
        return source_of_folder(base, path.absolute())
    source, _ = run_source(find_run(text, runs_dir()), emit, prompts=wanted.prompts)
    if source.base.weights_sha256 != base.weights_sha256:
        why = f"it was trained on `{source.base.title}`"
        raise RecipeError("this run's adapter is for another base", where={"run": text}, why=why)
    return source


def _record(folder: RunFolder, made: list[Exported]) -> None:
    """Add what was exported to the list of a run whose recipe asked for exports."""
    room = folder.room("export")
    before = Exports.read(room)
    if before is None:
        return
    new = {one.format: one for one in made if one.folder.parent == room.absolute()}
    kept = [one for one in before.exported if one.format not in new]
    before.model_copy(update={"exported": [*kept, *new.values()]}).write(room)
