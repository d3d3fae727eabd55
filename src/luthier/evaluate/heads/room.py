"""The exam of a head: the same held-out texts to baselines and to the tuned model, and what differs."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from luthier.core.artifacts import Calibration, Report, SystemResult, Trained
from luthier.core.errors import CheckpointError
from luthier.core.events import Emit, Event
from luthier.evaluate.conclusion import TUNED, conclusion, seeded
from luthier.evaluate.heads.baselines import NEEDS_VECTORS, Frozen
from luthier.evaluate.heads.exam import HeadExam, set_head_exam
from luthier.evaluate.heads.quoted import Quoting
from luthier.evaluate.heads.said import Said, calibration_scores, said_by_head, scores_of
from luthier.evaluate.render import leave
from luthier.evaluate.results import Sitting, chosen_metrics, comparisons
from luthier.evaluate.sample import Sample, SampleAnswer
from luthier.evaluate.slices import slices
from luthier.evaluate.spec import EvaluateSpec, baselines_for
from luthier.evaluate.vectors.room import examine as examine_vectors
from luthier.model.adapter import load_tuned
from luthier.model.headcard import HeadCard
from luthier.model.headstep import HeadStep, Logits, head_logits, probabilities
from luthier.model.load import load_model, load_tokenizer
from luthier.model.reader import Reader
from luthier.score import squad
from luthier.score.closed import confusion
from luthier.score.intervals import estimate
from luthier.score.names import MetricName, metrics_for

WHAT = {
    "label": "one label",
    "labels": "several labels",
    "score": "numbers",
    "spans": "entities",
    "quote": "answers in a text",
}


def examine(spec: EvaluateSpec, given: Trained, out: Path, emit: Emit, *, seed: int) -> Report:
    """Put the test rows to the baselines and to the tuned model, compare them row by row, and write the report."""
    started = perf_counter()
    card = _card(given.weights)
    if card.is_vector:
        return examine_vectors(spec, given, card, out, emit, seed=seed)
    exam = set_head_exam(spec, given.prepared, card, emit, seed=seed)
    emit(Event(room="evaluate", kind="start", message=f"{len(exam.rows)} held-out rows"))

    metrics = _metrics(spec, exam)
    tuned, logits = [], []
    quoting = Quoting(given, exam, seed=seed) if exam.kind == "quote" else None
    for number, weights in enumerate((given.weights, *given.again)):
        if quoting:
            tuned.append(quoting.tuned(seeded(number, seed + number), weights, _card(weights)))
            continue
        said, own, seconds = _ask(given, weights, exam)
        logits.append(said)
        tuned.append(said_by_head(seeded(number, seed + number), own, said, seconds))
    systems_said = [*_baselines(spec, given, exam, quoting, emit, seed=seed), *tuned]
    sittings = [Sitting(one.system, None, scores=scores_of(one, exam, metrics)) for one in systems_said]
    systems = [_result(one, sitting, exam, spec, seed) for one, sitting in zip(systems_said, sittings, strict=True)]
    compared = comparisons(sittings, resamples=spec.resamples, seed=seed)
    ours = next(sitting.scores for sitting in sittings if sitting.system == TUNED)

    report = Report(
        folder=out,
        systems=systems,
        comparisons=compared,
        primary_metric=metrics[0],
        test_rows=len(exam.rows),
        conclusion=conclusion(systems, compared, metrics[0]),
        slices=slices(ours[metrics[0]], exam, resamples=spec.resamples, seed=seed) if exam.kind == "label" else [],
        calibration=_calibration(exam, logits[0] if logits else [], spec, seed),
        seconds=perf_counter() - started,
    )
    return leave(report, _samples(systems_said, sittings, exam), given, out, emit, facts=_facts(given, exam, seed))


def _card(weights: Path) -> HeadCard:
    card = HeadCard.read(weights)
    if card is None:
        hint = "train again: `luthier run RECIPE`"
        raise CheckpointError("the weights have no head", where={"folder": weights}, hint=hint)
    return card


def _metrics(spec: EvaluateSpec, exam: HeadExam) -> Sequence[MetricName]:
    usual = metrics_for(exam.kind)
    if exam.kind == "quote":
        return squad.fitting(usual if spec.metrics == "auto" else spec.metrics, exam.accepted)
    return chosen_metrics(spec, usual, why=f"the rows have {WHAT[exam.kind]}")


def _ask(given: Trained, weights: Path, exam: HeadExam) -> tuple[list[Logits], HeadCard, float]:
    """Return what a training's head says, its own card, and the seconds of a row."""
    card = _card(weights)
    model, started = load_tuned(given.prepared.base.folder, weights), perf_counter()
    logits = head_logits(HeadStep(model, card), exam.rows)
    return logits, card, (perf_counter() - started) / len(exam.rows)


def _baselines(
    spec: EvaluateSpec, given: Trained, exam: HeadExam, quoting: Quoting | None, emit: Emit, *, seed: int
) -> list[Said]:
    names = baselines_for(exam.kind) if spec.baselines == "auto" else tuple(dict.fromkeys(spec.baselines))
    folder = given.prepared.base.folder
    model = load_model(folder) if set(names) & set(NEEDS_VECTORS) else None
    frozen = Frozen(model, exam, Reader(load_tokenizer(folder)), seed=seed)
    said = []
    for number, name in enumerate(names):
        data = {"done": number, "total": len(names), "system": name, "task": "rows"}
        emit(Event(room="evaluate", kind="progress", message=name, data=data))
        said.append(quoting.baseline(name) if quoting else frozen.say(name))
    return said


def _result(said: Said, sitting: Sitting, exam: HeadExam, spec: EvaluateSpec, seed: int) -> SystemResult:
    has_one = exam.kind == "label"
    references = [exam.reference(row) for row in exam.asked]
    return SystemResult(
        name=said.system,
        metrics={name: estimate(one, resamples=spec.resamples, seed=seed) for name, one in sitting.scores.items()},
        prompt_tokens=0.0,
        latency_s=said.seconds,
        stops_share=1.0,
        confusion=confusion(said.texts(exam), references, exam.labels) if has_one else {},
    )


def _calibration(exam: HeadExam, logits: Sequence[Logits], spec: EvaluateSpec, seed: int) -> Calibration | None:
    """Return the calibration error as trained and with the temperature; None where nothing has a probability."""
    card = exam.card
    if card.kind not in ("label", "labels"):
        return None
    before, after = (
        calibration_scores(card, probabilities(card, np.stack(logits), temperature=temperature), exam.has)
        for temperature in (1.0, card.temperature)
    )
    return Calibration(
        temperature=card.temperature,
        rows=card.fitted_on,
        ece_before=estimate(before, resamples=spec.resamples, seed=seed),
        ece_after=estimate(after, resamples=spec.resamples, seed=seed),
    )


def _samples(said: Sequence[Said], sittings: Sequence[Sitting], exam: HeadExam) -> list[Sample]:
    texts = {one.system: one.texts(exam) for one in said}
    return [
        Sample(
            row=f"{Path(example.file).name}:{example.row}",
            prompt=example.text,
            reference=exam.tags[row] if exam.kind == "spans" else exam.reference(row),
            answers={
                sitting.system: SampleAnswer(
                    text=texts[sitting.system][row],
                    scores={name: float(scores.per_row[row]) for name, scores in sitting.scores.items()},
                    label=texts[sitting.system][row] if exam.kind == "label" else None,
                )
                for sitting in sittings
            },
        )
        for row, example in enumerate(exam.examples)
    ]


def _facts(given: Trained, exam: HeadExam, seed: int) -> dict[str, str]:
    prepared = given.prepared
    return {
        "base model": prepared.base.title,
        "base weights": prepared.base.weights_sha256[:16],
        "method": given.method,
        "adapter": f"{given.adapter}, {given.trainable_parameters:,} of {given.total_parameters:,} parameters",
        "training": f"{given.best_step} of {given.steps} steps on {prepared.rows.get('train', 0):,} rows",
        "data": prepared.data_sha256[:16],
        "answers": exam.kind,
        "seed": str(seed),
    }
