"""The table of metrics: from a metric's name to its scores over answers."""

from collections.abc import Callable, Sequence

from luthier.score import closed, entities, squad, structured, text
from luthier.score.graders.text_similarity import similarity
from luthier.score.names import AnswerMetric
from luthier.score.scores import Scores, mean_scores


def score(
    metric: AnswerMetric,
    answers: Sequence[str],
    references: Sequence[str],
    labels: Sequence[str] = (),
    *,
    accepted: squad.Accepted | None = None,
) -> Scores:
    """Score answers against their references, row by row; `labels` is the closed set, where there is one.

    `accepted` are all right answers of each row, where there may be several.
    """
    if metric in squad.METRICS:
        return squad.METRICS[metric](answers, squad.read_accepted(references) if accepted is None else accepted)
    if metric in _CLOSED:
        return _CLOSED[metric](answers, references, labels)
    if metric in _CORPUS:
        return _CORPUS[metric](answers, references)
    one = _PER_ROW[metric]
    return mean_scores(metric, [one(answer, reference) for answer, reference in zip(answers, references, strict=True)])


def _meteor(answer: str, reference: str) -> float:
    return similarity("meteor", answer, reference, embed=lambda texts: [])


_CLOSED: dict[AnswerMetric, Callable[[Sequence[str], Sequence[str], Sequence[str]], Scores]] = {
    "accuracy": closed.accuracy,
    "macro_f1": closed.macro_f1,
    "format_followed": closed.format_followed,
}
_CORPUS: dict[AnswerMetric, Callable[[Sequence[str], Sequence[str]], Scores]] = {
    "bleu": text.bleu,
    "chrf": text.chrf,
    "entity_f1": entities.entity_f1,
}
_PER_ROW: dict[AnswerMetric, Callable[[str, str], float]] = {
    "exact_match": text.exact_match,
    "token_f1": text.token_f1,
    "rouge_l": text.rouge_l,
    "json_valid": structured.json_valid,
    "field_f1": structured.field_f1,
    "meteor": _meteor,
}
