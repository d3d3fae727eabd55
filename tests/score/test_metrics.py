"""The table of metrics covers every name, and every kind of answer has its metrics."""

from typing import get_args

import pytest

from luthier.core.artifacts import AnswerKind
from luthier.evaluate import spec
from luthier.score.metrics import score
from luthier.score.names import (
    FROM_LOSSES,
    TITLES,
    AnswerMetric,
    HeadMetric,
    MetricName,
    is_proportion,
    lower_is_better,
    metrics_for,
)

ANSWERS = ['{"a": 1}', '{"a": 2}', "so"]
REFERENCES = ['{"a": 1}', '{"a": 3}', '{"b": 1}']


@pytest.mark.parametrize("metric", get_args(AnswerMetric))
def test_every_metric_scores_every_row_within_its_range(metric: AnswerMetric) -> None:
    scores = score(metric, ANSWERS, REFERENCES, REFERENCES)
    top = 100 if metric in ("bleu", "chrf") else 1
    assert scores.metric == metric
    assert scores.per_row.shape == (3,)
    assert ((scores.per_row >= 0) & (scores.per_row <= top + 1e-9)).all()
    # METEOR takes something off for the number of matched pieces, also where there is only one.
    perfect = 0.9375 if metric == "meteor" else top
    assert score(metric, REFERENCES, REFERENCES, REFERENCES).value == pytest.approx(perfect)
    if is_proportion(metric):
        assert set(scores.per_row.tolist()) <= {0.0, 1.0}


def test_names_are_the_recipes_names() -> None:
    assert spec.MetricName is MetricName
    assert set(TITLES) == set(get_args(MetricName))
    assert set(TITLES) == {*get_args(AnswerMetric), *get_args(HeadMetric), *FROM_LOSSES}
    assert {name for name in TITLES if lower_is_better(name)} == {"perplexity", "log_loss", "ece", "mae", "mse"}


@pytest.mark.parametrize(
    ("kind", "primary"),
    [
        ("closed", "accuracy"),
        ("json", "field_f1"),
        ("free", "rouge_l"),
        ("pair", "preference_accuracy"),
        ("text", "perplexity"),
    ],
)
def test_each_kind_has_a_primary_metric_and_ends_with_perplexity(kind: AnswerKind, primary: str) -> None:
    names = metrics_for(kind)
    assert (names[0], names[-1]) == (primary, "perplexity")
    assert len(set(names)) == len(names)
    assert kind in get_args(AnswerKind)
