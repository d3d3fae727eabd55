"""A report for an export: the run's test rows put to it in its own engine, beside what the run measured."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.artifacts import Comparison, Report, SystemResult
from luthier.core.errors import CheckpointError, RecipeError
from luthier.core.events import Emit, Event
from luthier.core.files import write_atomic
from luthier.core.runfolder import RunFolder, find_run
from luthier.core.settings import runs_dir
from luthier.evaluate.spec import EvaluateSpec
from luthier.export.manifest import Manifest, read_manifest
from luthier.jobs.export.hearing import ask_all
from luthier.jobs.export.opened import Opened, open_export
from luthier.jobs.pipeline import trained_of
from luthier.jobs.prepare import saved_plan

if TYPE_CHECKING:
    from luthier.evaluate.exam import Exam
    from luthier.evaluate.results import Sitting
    from luthier.evaluate.sample import Sample

AGAIN = "measure the run first: `luthier evaluate RUN`"


def evaluate_export(folder: Path, emit: Emit, *, run: str | None = None, adapter: str | None = None) -> Report:
    """Put a run's test rows to an export of it, and write the run's report with the export as a further system.

    The report goes to `evaluate/<form>/` in the run's folder.
    """
    from luthier.evaluate.curves import read_curves
    from luthier.evaluate.exam import set_exam
    from luthier.evaluate.render import write_reports
    from luthier.model.base import resolve_base

    manifest = read_manifest(folder)
    where = _run_of(folder, manifest, run)
    plan = saved_plan(where)
    trained = trained_of(where, resolve_base(plan.base_model, emit))
    if not adapter and manifest.tuned_weights_sha256 != trained.weights_sha256:
        what = "this export is not of this run"
        raise RecipeError(what, where={"export": folder, "run": where.path}, hint="name its own run with `--run`")
    before, known = _measured(where)
    spec = plan.evaluate or EvaluateSpec()
    exam = set_exam(spec, trained.prepared, emit, seed=plan.seed)
    opened = open_export(folder, emit=emit)
    name = manifest.format if adapter is None else f"{manifest.format} + {adapter}"
    try:
        ours = _sitting(name, exam, spec, opened, emit, adapter=adapter)
    finally:
        opened.engine.close()
    system, compared, shown = _beside(ours, exam, spec, known, seed=plan.seed)
    out = where.room("evaluate") / name.replace(" + ", "-")
    report = before.model_copy(
        update={
            "folder": out.absolute(),
            "systems": [*before.systems, system],
            "comparisons": [*before.comparisons, *compared],
            "conclusion": _conclusion(name, system, compared, before.primary_metric),
        }
    )
    write_atomic(out / "samples.jsonl", "".join(sample.model_dump_json() + "\n" for sample in shown))
    write_atomic(out / "report.json", report.model_dump_json(indent=2) + "\n")
    curves = read_curves(where.room("train") / "metrics.jsonl")
    facts = {"export": manifest.format, "engine": opened.engine_name, "base model": manifest.base_model}
    write_reports(report, shown, curves, out, facts=facts)
    return report


def _run_of(folder: Path, manifest: Manifest, run: str | None) -> RunFolder:
    """Return the run that an export belongs to: the named one, or the one in whose folder it lies."""
    if run is not None:
        return find_run(run, runs_dir())
    for parent in folder.absolute().parents:
        if RunFolder(parent).is_run:
            return RunFolder(parent)
    named = f"it comes from the run `{manifest.run}`" if manifest.run else "it does not say which run it comes from"
    raise RecipeError("this export lies in no run's folder", where={"export": folder}, why=named, hint="use `--run`")


def _measured(where: RunFolder) -> "tuple[Report, list[Sample]]":
    """Return what the run measured, and its answers row by row."""
    from luthier.evaluate.sample import Sample

    report, path = Report.read(where.room("evaluate")), where.room("evaluate") / "samples.jsonl"
    if report is None or not path.exists():
        raise CheckpointError("this run has no evaluation to compare with", where={"run": where.path}, hint=AGAIN)
    lines = path.read_text(encoding="utf-8").split("\n")
    return report, [Sample.model_validate_json(line) for line in lines if line]


def _sitting(
    name: str, exam: "Exam", spec: EvaluateSpec, opened: Opened, emit: Emit, *, adapter: str | None
) -> "Sitting":
    from luthier.evaluate.answer import Answers
    from luthier.evaluate.exam import chosen_metrics
    from luthier.evaluate.results import Sitting, scored

    if not exam.asked:
        raise RecipeError("the rows of this run ask nothing", hint="an export is measured by its answers")
    done = 0

    def heard(rows: int) -> None:
        nonlocal done
        done += rows
        told = {"done": done, "total": len(exam.asked), "system": name, "task": "answers"}
        emit(Event(room="evaluate", kind="progress", message=f"{name}: answers", data=told))

    started = time.perf_counter()
    said = ask_all(
        opened.engine,
        opened.template,
        exam.prompts,
        max_new_tokens=exam.max_new_tokens,
        adapter=opened.adapter(adapter),
        progress=heard,
    )
    count = len(exam.prompts)
    answers = Answers(
        [exam.read(one.text) for one in said],
        [one.stopped for one in said],
        sum(map(len, exam.prompts)) / count,
        (time.perf_counter() - started) / count,
    )
    return scored(Sitting(name, answers), exam, chosen_metrics(spec, exam), spec.user_metrics)


def _beside(
    ours: "Sitting", exam: "Exam", spec: EvaluateSpec, known: "Sequence[Sample]", *, seed: int
) -> "tuple[SystemResult, list[Comparison], list[Sample]]":
    """Return the export's result, its comparisons with the tuned model, and all answers row by row."""
    from luthier.evaluate.answer import Answers
    from luthier.evaluate.conclusion import TUNED
    from luthier.evaluate.exam import chosen_metrics
    from luthier.evaluate.results import Sitting, samples, scored, system_result
    from luthier.score.paired import compare

    fresh = samples([ours], exam)
    if [one.row for one in fresh] != [one.row for one in known] or any(TUNED not in one.answers for one in known):
        raise CheckpointError("the run's evaluation is of other rows", hint=AGAIN)
    told = [known[row].answers[TUNED] for row in exam.asked]
    answers = Answers([one.text for one in told], [one.stopped for one in told], 0.0, 0.0)
    tuned = scored(Sitting(TUNED, answers), exam, chosen_metrics(spec, exam), spec.user_metrics)
    compared = [
        compare(scores, ours.scores[metric], names=(TUNED, ours.system), resamples=spec.resamples, seed=seed)
        for metric, scores in tuned.scores.items()
        if metric in ours.scores
    ]
    shown = [
        old.model_copy(update={"answers": {**old.answers, **new.answers}})
        for old, new in zip(known, fresh, strict=True)
    ]
    return system_result(ours, exam, resamples=spec.resamples, seed=seed), compared, shown


def _conclusion(name: str, system: SystemResult, compared: Sequence[Comparison], primary: str) -> str:
    from luthier.score.names import title_of
    from luthier.score.verdict import estimate_text

    found = next((one for one in compared if one.metric == primary), None)
    if found is None or primary not in system.metrics:
        return f"{name} was not measured in {title_of(primary)}."
    reached = f"{name} reaches {title_of(primary)} {estimate_text(primary, system.metrics[primary])}"
    return f"{reached}. Beside the tuned model: {found.verdict}"
