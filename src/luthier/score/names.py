"""The names of the metrics, which of them suit which kind of answer, and which way is better."""

from typing import Literal

from luthier.core.artifacts import AnswerKind

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
]
"""Metrics of an answer against its reference: 0 to 1, but `chrf` and `bleu` 0 to 100, as they are published."""

MetricName = Literal[AnswerMetric, "perplexity"]
"""All metrics; perplexity (1 and up) is the one that comes from losses, not from answers."""

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
    "perplexity": "perplexity",
}
"""What reports call each metric."""

_BY_KIND: dict[AnswerKind, tuple[AnswerMetric, ...]] = {
    "closed": ("accuracy", "macro_f1", "format_followed"),
    "json": ("field_f1", "json_valid", "exact_match"),
    "free": ("rouge_l", "token_f1", "exact_match", "chrf", "bleu"),
    "text": (),
}


def metrics_for(kind: AnswerKind) -> tuple[MetricName, ...]:
    """Return the metrics that suit a kind of answer: the primary one first, perplexity last."""
    return (*_BY_KIND[kind], "perplexity")


def lower_is_better(metric: str) -> bool:
    """Tell whether a smaller value of this metric is the better one."""
    return metric == "perplexity"


def is_proportion(metric: str) -> bool:
    """Tell whether a row scores either 0 or 1, so that the value is a share of rows."""
    return metric in ("accuracy", "format_followed", "exact_match", "json_valid")
