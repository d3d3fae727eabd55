"""The exam of vectors: the same held-out texts to shared words, the untuned and the tuned model, and what differs."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from luthier.core.artifacts import Report, SystemResult, Trained
from luthier.core.events import Emit, Event
from luthier.evaluate.conclusion import conclusion, seeded
from luthier.evaluate.render import leave
from luthier.evaluate.results import Sitting, chosen_metrics, comparisons
from luthier.evaluate.sample import Sample, SampleAnswer
from luthier.evaluate.spec import BaselineName, EvaluateSpec, baselines_for
from luthier.evaluate.vectors.exam import VectorExam, set_vector_exam
from luthier.evaluate.vectors.said import Said, by_words, said_by_vectors, scores_of
from luthier.model.adapter import load_tuned
from luthier.model.headcard import HeadCard
from luthier.model.headed import load_vectored
from luthier.model.vectors import VectorStep, text_vectors
from luthier.score.intervals import estimate
from luthier.score.names import MetricName, metrics_for

WHAT = {"match": "pairs of texts", "triplet": "triplets of texts", "likeness": "scored pairs of texts"}


def examine(spec: EvaluateSpec, given: Trained, card: HeadCard, out: Path, emit: Emit, *, seed: int) -> Report:
    """Put the test rows to the baselines and to the tuned model, compare them row by row, and write the report."""
    started = perf_counter()
    exam = set_vector_exam(spec, given.prepared, card, emit, seed=seed)
    message = f"{len(exam.examples)} held-out rows with {len(exam.texts)} different texts"
    emit(Event(room="evaluate", kind="start", message=message))

    metrics = _metrics(spec, exam)
    said = [_baseline(name, given, exam, emit) for name in _names(spec, exam)]
    for number, weights in enumerate((given.weights, *given.again)):
        model = load_tuned(given.prepared.base.folder, weights)
        said.append(_asked(seeded(number, seed + number), model, exam))
    sittings = [Sitting(one.system, None, scores=scores_of(one, exam, metrics)) for one in said]
    systems = [_result(one, sitting, spec, seed) for one, sitting in zip(said, sittings, strict=True)]
    compared = comparisons(sittings, resamples=spec.resamples, seed=seed)

    report = Report(
        folder=out,
        systems=systems,
        comparisons=compared,
        primary_metric=metrics[0],
        test_rows=len(exam.examples),
        conclusion=conclusion(systems, compared, metrics[0]),
        seconds=perf_counter() - started,
    )
    return leave(report, _samples(said, sittings, exam), given, out, emit, facts=_facts(given, exam, seed))


def _metrics(spec: EvaluateSpec, exam: VectorExam) -> tuple[MetricName, ...]:
    return chosen_metrics(spec, metrics_for(exam.kind), why=f"the rows are {WHAT[exam.kind]}")


def _names(spec: EvaluateSpec, exam: VectorExam) -> Sequence[BaselineName]:
    return baselines_for(exam.kind) if spec.baselines == "auto" else tuple(dict.fromkeys(spec.baselines))


def _baseline(name: BaselineName, given: Trained, exam: VectorExam, emit: Emit) -> Said:
    emit(Event(room="evaluate", kind="progress", message=name, data={"system": name, "task": "rows"}))
    if name == "untuned":
        return _asked(name, load_vectored(given.prepared.base.folder), exam)
    started = perf_counter()
    return said_by_vectors(name, by_words(exam), exam, (perf_counter() - started) / len(exam.texts))


def _asked(system: str, model: torch.nn.Module, exam: VectorExam) -> Said:
    started = perf_counter()
    vectors = text_vectors(VectorStep(model, exam.card), exam.tokens).astype(np.float64)
    return said_by_vectors(system, vectors, exam, (perf_counter() - started) / len(exam.texts))


def _result(said: Said, sitting: Sitting, spec: EvaluateSpec, seed: int) -> SystemResult:
    return SystemResult(
        name=said.system,
        metrics={name: estimate(one, resamples=spec.resamples, seed=seed) for name, one in sitting.scores.items()},
        prompt_tokens=0.0,
        latency_s=said.seconds,
        stops_share=1.0,
    )


def _samples(said: Sequence[Said], sittings: Sequence[Sitting], exam: VectorExam) -> list[Sample]:
    texts = {one.system: one.texts(exam) for one in said}
    return [
        Sample(
            row=f"{Path(example.file).name}:{example.row}",
            prompt=example.text if example.score is None else "\n".join(example.texts),
            reference=example.answer,
            answers={
                sitting.system: SampleAnswer(
                    text=texts[sitting.system][row],
                    scores={name: float(scores.per_row[row]) for name, scores in sitting.scores.items()},
                )
                for sitting in sittings
            },
        )
        for row, example in enumerate(exam.examples)
    ]


def _facts(given: Trained, exam: VectorExam, seed: int) -> dict[str, str]:
    prepared, card = given.prepared, exam.card
    pooled = "mean of the tokens" if card.pooling == "mean" else "the place of the model"
    return {
        "base model": prepared.base.title,
        "base weights": prepared.base.weights_sha256[:16],
        "method": given.method,
        "adapter": f"{given.adapter}, {given.trainable_parameters:,} of {given.total_parameters:,} parameters",
        "training": f"{given.best_step} of {given.steps} steps on {prepared.rows.get('train', 0):,} rows",
        "data": prepared.data_sha256[:16],
        "vectors": f"{pooled}, of {WHAT[exam.kind]}",
        "candidates": f"{len(exam.candidates):,} texts" if card.kind != "likeness" else "none",
        "seed": str(seed),
    }
