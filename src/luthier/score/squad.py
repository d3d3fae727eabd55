"""Answers to questions about a text, scored as SQuAD 2.0's own script does (Rajpurkar et al. 2018), from 0 to 1."""

from collections.abc import Callable, Sequence

import numpy as np

from luthier.core.errors import DataError
from luthier.examples.example import NO_ANSWER
from luthier.score.names import MetricName
from luthier.score.scores import FloatArray, Scores, mean_scores
from luthier.score.text import squad_words, token_f1

Accepted = Sequence[Sequence[str]]
"""All right answers of each row; none where the text does not say it."""


def squad_em(answers: Sequence[str], accepted: Accepted) -> Scores:
    """Return the share of answers that have the words of an accepted one: case, articles and punctuation aside."""
    return mean_scores("squad_em", _best(_same, answers, accepted))


def squad_f1(answers: Sequence[str], accepted: Accepted) -> Scores:
    """Return the mean token-F1 with the accepted answer that is nearest."""
    return mean_scores("squad_f1", _best(token_f1, answers, accepted))


def has_answer_em(answers: Sequence[str], accepted: Accepted) -> Scores:
    """Return exact match over the rows that have an answer (HasAns)."""
    return _of_some("has_answer_em", _best(_same, answers, accepted), accepted, has=True)


def has_answer_f1(answers: Sequence[str], accepted: Accepted) -> Scores:
    """Return token-F1 over the rows that have an answer (HasAns)."""
    return _of_some("has_answer_f1", _best(token_f1, answers, accepted), accepted, has=True)


def no_answer_accuracy(answers: Sequence[str], accepted: Accepted) -> Scores:
    """Return the share of the rows without an answer where none is given (NoAns: exact match and F1 are the same)."""
    return _of_some("no_answer_accuracy", _best(_same, answers, accepted), accepted, has=False)


METRICS: dict[str, Callable[[Sequence[str], Accepted], Scores]] = {
    "squad_em": squad_em,
    "squad_f1": squad_f1,
    "has_answer_em": has_answer_em,
    "has_answer_f1": has_answer_f1,
    "no_answer_accuracy": no_answer_accuracy,
}


def fitting(metrics: Sequence[MetricName], accepted: Accepted) -> tuple[MetricName, ...]:
    """Return those of the metrics that say something of such rows: they are scored apart only where they differ."""
    has = [bool(_worded(one)) for one in accepted]
    apart = {"has_answer_em": 0 < sum(has) < len(has), "has_answer_f1": 0 < sum(has) < len(has)}
    apart["no_answer_accuracy"] = not all(has)
    found = tuple(metric for metric in dict.fromkeys(metrics) if apart.get(metric, True))
    if not found:
        why = "all rows have an answer, or none has"
        hint = "take `squad_f1` and `squad_em`"
        raise DataError(f"`{metrics[0]}` measures nothing", where={"field": "evaluate.metrics"}, why=why, hint=hint)
    return found


def read_accepted(references: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the accepted answers where each row knows a single reference."""
    return [() if is_no_answer(one) else (one,) for one in references]


def is_no_answer(answer: str) -> bool:
    """Tell whether an answer says that there is none."""
    return " ".join(squad_words(answer)) in ("", NO_ANSWER)


def _best(one: Callable[[str, str], float], answers: Sequence[str], accepted: Accepted) -> list[float]:
    plain = ["" if is_no_answer(answer) else answer for answer in answers]
    return [
        max(one(answer, right) for right in _worded(rights) or ("",))
        for answer, rights in zip(plain, accepted, strict=True)
    ]


def _worded(accepted: Sequence[str]) -> list[str]:
    # As SQuAD's script: an accepted answer of articles and punctuation alone counts only as no answer.
    return [one for one in accepted if squad_words(one)]


def _same(answer: str, reference: str) -> float:
    return float(squad_words(answer) == squad_words(reference))


def _of_some(metric: str, rows: Sequence[float], accepted: Accepted, *, has: bool) -> Scores:
    counted = np.array([bool(_worded(one)) == has for one in accepted], dtype=np.float64)
    statistics = np.stack([np.asarray(rows, dtype=np.float64) * counted, counted], axis=-1)
    return Scores(metric, statistics[:, 0], statistics, _share)


def _share(sums: FloatArray) -> FloatArray:
    # A resample may hold no such row: nothing is wrong there.
    return np.divide(sums[..., 0], sums[..., 1], out=np.ones_like(sums[..., 0]), where=sums[..., 1] > 0)
