"""The names of the metrics, which of them suit which kind of answer, and which way is better."""

from typing import Literal, get_args

from luthier.core.artifacts import HEAD_KINDS, AnswerKind

AnswerMetric = Literal[
    "accuracy",
    "macro_f1",
    "format_followed",
    "exact_match",
    "token_f1",
    "rouge_l",
    "chrf",
    "bleu",
    "json_valid",
    "field_f1",
    "entity_f1",
    "meteor",
    "squad_em",
    "squad_f1",
    "has_answer_em",
    "has_answer_f1",
    "no_answer_accuracy",
]
"""Metrics of an answer against its reference: 0 to 1, but `chrf` and `bleu` 0 to 100, as they are published. Those from
`squad_em` on take the best of several accepted answers, as SQuAD's script does."""

HeadMetric = Literal[
    "accuracy",
    "macro_f1",
    "micro_f1",
    "subset_accuracy",
    "log_loss",
    "ece",
    "mae",
    "mse",
    "pearson",
    "spearman",
    "entity_f1",
    "entity_precision",
    "entity_recall",
    "squad_em",
    "squad_f1",
    "has_answer_em",
    "has_answer_f1",
    "no_answer_accuracy",
    "accuracy_at_1",
    "mrr_at_10",
    "ndcg_at_10",
    "triplet_accuracy",
]
"""Metrics of what a head says: of its labels and their probabilities, of its numbers, of the entities it finds, of the
answers it points at, and of how near texts are to their matches."""

LossMetric = Literal["preference_accuracy", "perplexity"]
"""Metrics that come from losses, not from answers: the share of pairs whose better answer is the likelier one (0 to 1),
and perplexity (1 and up)."""

MetricName = Literal[AnswerMetric, HeadMetric, LossMetric]
"""All metrics."""

FROM_LOSSES: tuple[MetricName, ...] = get_args(LossMetric)

TITLES: dict[str, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "format_followed": "format followed",
    "exact_match": "exact match",
    "token_f1": "token-F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "bleu": "BLEU",
    "json_valid": "valid JSON",
    "field_f1": "field-F1",
    "entity_f1": "entity-F1",
    "meteor": "METEOR (no synonyms)",
    "preference_accuracy": "preference accuracy",
    "micro_f1": "micro-F1",
    "subset_accuracy": "all labels right",
    "log_loss": "log loss",
    "ece": "calibration error",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
    "entity_precision": "entity precision",
    "entity_recall": "entity recall",
    "squad_em": "exact match (SQuAD)",
    "squad_f1": "token-F1 (SQuAD)",
    "has_answer_em": "exact match where there is an answer",
    "has_answer_f1": "token-F1 where there is an answer",
    "no_answer_accuracy": "right where there is no answer",
    "accuracy_at_1": "accuracy@1",
    "mrr_at_10": "MRR@10",
    "ndcg_at_10": "nDCG@10",
    "triplet_accuracy": "triplet accuracy",
    "perplexity": "perplexity",
}
"""What reports call each metric."""


def title_of(metric: str) -> str:
    """Return what reports call a metric; a metric of the user's own goes by its name."""
    return TITLES.get(metric, metric)


_QUOTED: tuple[MetricName, ...] = ("squad_f1", "squad_em", "has_answer_f1", "has_answer_em", "no_answer_accuracy")
_BY_KIND: dict[AnswerKind, tuple[MetricName, ...]] = {
    "closed": ("accuracy", "macro_f1", "format_followed"),
    "json": ("field_f1", "json_valid", "exact_match"),
    "free": ("rouge_l", "token_f1", "exact_match", "chrf", "bleu"),
    "accepted": _QUOTED,
    "pair": ("preference_accuracy",),
    "text": (),
    "label": ("accuracy", "macro_f1", "log_loss", "ece"),
    "labels": ("micro_f1", "macro_f1", "subset_accuracy", "log_loss", "ece"),
    "score": ("mae", "mse", "pearson", "spearman"),
    "match": ("mrr_at_10", "accuracy_at_1", "ndcg_at_10"),
    "triplet": ("triplet_accuracy", "mrr_at_10", "accuracy_at_1", "ndcg_at_10"),
    "likeness": ("spearman", "pearson"),
    "spans": ("entity_f1", "entity_precision", "entity_recall"),
    "quote": _QUOTED,
}


def metrics_for(kind: AnswerKind) -> tuple[MetricName, ...]:
    """Return the metrics that suit a kind of answer: the primary one first, perplexity last; a head has none."""
    return _BY_KIND[kind] if kind in HEAD_KINDS else (*_BY_KIND[kind], "perplexity")


def lower_is_better(metric: str) -> bool:
    """Tell whether a smaller value of this metric is the better one."""
    return metric in ("perplexity", "log_loss", "ece", "mae", "mse")


def is_proportion(metric: str) -> bool:
    """Tell whether a row scores either 0 or 1, so that the value is a share of rows."""
    return metric in (
        "accuracy",
        "format_followed",
        "exact_match",
        "json_valid",
        "preference_accuracy",
        "subset_accuracy",
        "squad_em",
        "accuracy_at_1",
        "triplet_accuracy",
    )
