"""What one system says of the held-out texts, and its scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.evaluate.heads.exam import HeadExam
from luthier.examples.example import NO_ANSWER
from luthier.examples.spans import OUTSIDE
from luthier.model.headcard import HeadCard
from luthier.model.headstep import Logits, probabilities
from luthier.score import heads, squad
from luthier.score.entities import entity_f1, entity_precision, entity_recall
from luthier.score.names import MetricName
from luthier.score.scores import FloatArray, Scores, mean_scores

THRESHOLD = 0.5
"""From which probability on a label is said, where a text may have several."""


@dataclass(frozen=True)
class Said:
    """One of these, by the kind of head; `sure` tells whether the probabilities mean anything."""

    system: str
    probabilities: FloatArray | None = None
    """Of each label, (N, K)."""
    scores: FloatArray | None = None
    """Numbers, (N,)."""
    tags: list[list[str]] | None = None
    """A tag for each word of each text."""
    answers: list[str] | None = None
    """Answers to the questions; empty where the text does not say it."""
    sure: bool = True
    seconds: float = 0.0
    """Per text."""

    def texts(self, exam: HeadExam) -> list[str]:
        """Return what was said in words, as the right answers are written."""
        if self.probabilities is not None:
            return [", ".join(labels) for labels in said_labels(exam.card, self.probabilities)]
        if self.scores is not None:
            return [f"{score:g}" for score in self.scores]
        if self.answers is not None:
            return [answer or NO_ANSWER for answer in self.answers]
        return [" ".join(tags) for tags in self.tags or []]


def said_by_head(system: str, card: HeadCard, logits: Sequence[Logits], seconds: float) -> Said:
    """Return what a head's outputs say, at its temperature."""
    if card.kind == "spans":
        return Said(system, tags=[tags_said(card, one) for one in logits], seconds=seconds)
    if card.kind == "score":
        numbers = np.array([card.mean + card.spread * float(one[0]) for one in logits])
        return Said(system, scores=numbers, seconds=seconds)
    return Said(system, probabilities=probabilities(card, np.stack(logits)), seconds=seconds)


def tags_said(card: HeadCard, logits: Logits) -> list[str]:
    """Return the likeliest tag of each word."""
    return [card.labels[number] for number in logits.argmax(-1)] if len(logits) else []


def said_labels(card: HeadCard, found: FloatArray) -> list[tuple[str, ...]]:
    """Return the labels that probabilities say of each text: the likeliest one, or all that are likelier than not."""
    if card.kind == "label":
        return [(card.labels[number],) for number in found.argmax(axis=1)]
    chosen = found > THRESHOLD
    return [tuple(label for label, is_said in zip(card.labels, row, strict=True) if is_said) for row in chosen]


def scores_of(said: Said, exam: HeadExam, metrics: Sequence[MetricName]) -> dict[str, Scores]:
    """Return the scores of a system in those of the metrics that apply to it."""
    table = _table(said, exam)
    return {metric: table[metric]() for metric in metrics if metric in table}


def calibration_scores(card: HeadCard, found: FloatArray, has: FloatArray) -> Scores:
    """Return how far a head's certainty is from how often it is right."""
    if card.kind == "labels":
        return heads.calibration_error(found, has)
    rows, likeliest = np.arange(len(found)), found.argmax(axis=1)
    return heads.calibration_error(found[rows, likeliest][:, None], has[rows, likeliest][:, None])


def _table(said: Said, exam: HeadExam) -> dict[str, Callable[[], Scores]]:
    if said.scores is not None:
        return {name: _bound(getattr(heads, name), said.scores, exam.scores) for name in NUMBERS}
    if said.tags is not None:
        texts = [" ".join(tag.replace(" ", "_") for tag in tags) or OUTSIDE for tags in said.tags]
        counts = {"entity_f1": entity_f1, "entity_precision": entity_precision, "entity_recall": entity_recall}
        return {name: _bound(count, texts, exam.tags) for name, count in counts.items()}
    if said.answers is not None:
        return {name: _bound(count, said.answers, exam.accepted) for name, count in squad.METRICS.items()}
    found = said.probabilities if said.probabilities is not None else np.zeros(exam.has.shape)
    chosen = heads.one_hot(said_labels(exam.card, found), exam.card.labels)
    table: dict[str, Callable[[], Scores]] = {"macro_f1": _bound(heads.macro_f1, chosen, exam.has)}
    if exam.kind == "label":
        table["accuracy"] = _bound(mean_scores, "accuracy", (chosen * exam.has).sum(axis=1))
    else:
        table |= {
            "micro_f1": _bound(heads.micro_f1, chosen, exam.has),
            "subset_accuracy": _bound(heads.subset_accuracy, chosen, exam.has),
        }
    if said.sure:
        table["log_loss"] = _bound(heads.log_loss, found, exam.has)
        table["ece"] = _bound(calibration_scores, exam.card, found, exam.has)
    return table


NUMBERS = ("mae", "mse", "pearson", "spearman")


def _bound(count: Callable[..., Scores], *given: object) -> Callable[[], Scores]:
    return lambda: count(*given)
