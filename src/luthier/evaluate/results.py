"""Results: from answers and losses to scores, comparisons and samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from luthier.core.artifacts import Comparison, SystemResult
from luthier.core.errors import DataError
from luthier.evaluate.answer import Answers
from luthier.evaluate.conclusion import LABEL_SCORED, SEEDED, TUNED
from luthier.evaluate.exam import Exam
from luthier.evaluate.sample import Sample, SampleAnswer
from luthier.evaluate.spec import EvaluateSpec, UserMetric
from luthier.evaluate.user import score_by_user
from luthier.model.scoring import RowLoss
from luthier.score.closed import confusion, label_set, read_labels
from luthier.score.intervals import estimate
from luthier.score.metrics import score
from luthier.score.names import FROM_LOSSES, MetricName
from luthier.score.paired import compare_over_seeds
from luthier.score.perplexity import perplexity
from luthier.score.preference import preference_accuracy
from luthier.score.scores import Scores


@dataclass(frozen=True)
class Sitting:
    """One system's answers and, where it was priced, its loss on every row."""

    system: str
    answers: Answers | None
    losses: list[RowLoss] | None = None
    rejected: list[RowLoss] | None = None
    """The loss on every row's worse answer, where the rows are pairs and were priced."""
    scores: dict[str, Scores] = field(default_factory=dict)


def scored(
    sitting: Sitting, exam: Exam, metrics: Sequence[MetricName], user_metrics: Sequence[UserMetric] = ()
) -> Sitting:
    """Return the sitting with its scores in all metrics that apply to it."""
    scores: dict[str, Scores] = {}
    if sitting.answers is not None:
        accepted = exam.accepted
        for metric in metrics:
            # Whoever picks a label cannot miss the format.
            if metric in FROM_LOSSES or (metric == "format_followed" and sitting.system.endswith(LABEL_SCORED)):
                continue
            scores[metric] = score(metric, sitting.answers.texts, exam.references, exam.labels, accepted=accepted)
        scores |= score_by_user(user_metrics, exam, sitting.answers.texts)
    if sitting.losses is not None and sitting.rejected is not None:
        better, worse = ([loss.total for loss in losses] for losses in (sitting.losses, sitting.rejected))
        scores["preference_accuracy"] = preference_accuracy(better, worse)
    if sitting.losses is not None:
        scores["perplexity"] = perplexity([x.total for x in sitting.losses], [x.tokens for x in sitting.losses])
    return replace(sitting, scores=scores)


def chosen_metrics(spec: EvaluateSpec, usual: Sequence[MetricName], *, why: str) -> tuple[MetricName, ...]:
    """Return the metrics that a spec asks for, of the usual ones; DataError with `why` where one does not fit."""
    if spec.metrics == "auto":
        return tuple(usual)
    wrong = [one for one in spec.metrics if one not in usual]
    if wrong:
        hint = f"there are {', '.join(usual)}"
        raise DataError(f"`{wrong[0]}` does not fit", where={"field": "evaluate.metrics"}, why=why, hint=hint)
    return tuple(dict.fromkeys(spec.metrics))


def system_result(sitting: Sitting, exam: Exam, *, resamples: int, seed: int) -> SystemResult:
    """Return a system's metrics with intervals, and how it answered."""
    answers = sitting.answers
    closed = answers is not None and bool(exam.labels)
    return SystemResult(
        name=sitting.system,
        metrics={name: estimate(one, resamples=resamples, seed=seed) for name, one in sitting.scores.items()},
        prompt_tokens=answers.prompt_tokens if answers else 0.0,
        latency_s=answers.latency_s if answers else 0.0,
        stops_share=sum(answers.stopped) / len(answers.stopped) if answers else 0.0,
        confusion=confusion(answers.texts, exam.references, exam.labels) if answers and closed else {},
    )


def comparisons(sittings: Sequence[Sitting], *, resamples: int, seed: int) -> list[Comparison]:
    """Compare the tuned system with every other in every metric that both have, the primary one first."""
    tuned = next(sitting for sitting in sittings if sitting.system == TUNED)
    again = [sitting for sitting in sittings if sitting.system.startswith(SEEDED)]
    written = [sitting for sitting in again if not sitting.system.endswith(LABEL_SCORED)]
    made = []
    for metric, ours in tuned.scores.items():
        all_ours = [ours, *(sitting.scores[metric] for sitting in written if metric in sitting.scores)]
        for other in sittings:
            if other is not tuned and other not in again and metric in other.scores:
                names = (TUNED, other.system)
                theirs = other.scores[metric]
                made.append(compare_over_seeds(all_ours, theirs, names=names, resamples=resamples, seed=seed))
    return made


def samples(sittings: Sequence[Sitting], exam: Exam) -> list[Sample]:
    """Return every test row with what each system answered."""
    places = {row: place for place, row in enumerate(exam.asked)}
    labels = {sitting.system: _labels(sitting, exam) for sitting in sittings}
    return [
        Sample(
            row=f"{Path(example.file).name}:{example.row}",
            prompt=exam.template.tokenizer.decode(exam.rows[row].ids[: exam.rows[row].prompt_tokens]),
            reference=exam.reference(row),
            answers=_answers(sittings, labels, exam, row, places.get(row)),
        )
        for row, example in enumerate(exam.examples)
    ]


def _labels(sitting: Sitting, exam: Exam) -> list[str | None]:
    if sitting.answers is None or not exam.labels:
        return [None] * len(exam.asked)
    return read_labels(sitting.answers.texts, label_set(exam.references, exam.labels))


def _answers(
    sittings: Sequence[Sitting], labels: Mapping[str, list[str | None]], exam: Exam, row: int, place: int | None
) -> dict[str, SampleAnswer]:
    found = {}
    for sitting in sittings:
        scores: dict[str, float] = {}
        for metric, values in sitting.scores.items():
            at = row if metric in FROM_LOSSES else place
            if at is not None:
                scores[metric] = float(values.per_row[at])
        if sitting.answers is None or place is None:
            found[sitting.system] = SampleAnswer(text=_likelier(sitting, exam, row), scores=scores)
            continue
        text, stopped = sitting.answers.texts[place], sitting.answers.stopped[place]
        found[sitting.system] = SampleAnswer(
            text=text, scores=scores, stopped=stopped, label=labels[sitting.system][place]
        )
    return found


def _likelier(sitting: Sitting, exam: Exam, row: int) -> str:
    """Return which answer of a pair a system finds the likelier one; nothing where the row is no pair."""
    worse = exam.rejected(row)
    if worse is None or not sitting.scores:
        return ""
    return exam.reference(row) if sitting.scores["preference_accuracy"].per_row[row] else worse
