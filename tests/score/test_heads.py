"""Scores of heads: against scikit-learn and scipy, and against counts made here by other means."""

import numpy as np
import pytest
from scipy import stats
from seqeval.metrics import f1_score, precision_score, recall_score
from sklearn import metrics

from luthier.score import heads
from luthier.score.entities import entity_f1, entity_precision, entity_recall

RNG = np.random.default_rng(0)
SAID = RNG.dirichlet(np.ones(4), 60)
TRUE = np.eye(4)[RNG.integers(0, 4, 60)]
MANY_SAID, MANY_TRUE = RNG.random((60, 4)), (RNG.random((60, 4)) > 0.6).astype(float)
CHOSEN = (MANY_SAID > 0.5).astype(float)


def test_log_loss_is_scikit_learns() -> None:
    assert heads.log_loss(SAID, TRUE).value == pytest.approx(metrics.log_loss(TRUE, SAID))
    each = [metrics.log_loss(MANY_TRUE[:, k], MANY_SAID[:, k], labels=[0, 1]) for k in range(4)]
    assert heads.log_loss(MANY_SAID, MANY_TRUE).value == pytest.approx(np.mean(each))


def test_f1_of_several_labels_is_scikit_learns() -> None:
    for average, ours in (("micro", heads.micro_f1), ("macro", heads.macro_f1)):
        assert ours(CHOSEN, MANY_TRUE).value == pytest.approx(metrics.f1_score(MANY_TRUE, CHOSEN, average=average))
    assert heads.subset_accuracy(CHOSEN, MANY_TRUE).value == pytest.approx(metrics.accuracy_score(MANY_TRUE, CHOSEN))


def test_calibration_error_by_hand() -> None:
    sure, right = np.array([[0.9], [0.92], [0.55], [1.0]]), np.array([[1.0], [0.0], [1.0], [1.0]])
    # 15 bins of 1/15: 0.9 and 0.92 share one, 0.55 and 1.0 have their own.
    expected = (abs(0.9 + 0.92 - 1) + abs(0.55 - 1) + abs(1.0 - 1)) / 4
    assert heads.calibration_error(sure, right).value == pytest.approx(expected)
    always = np.full((100, 1), 0.7)
    assert heads.calibration_error(always, np.repeat([1.0, 0.0], [70, 30])[:, None]).value == pytest.approx(
        0, abs=1e-12
    )


def test_numbers() -> None:
    said, true = RNG.normal(size=50), RNG.normal(size=50)
    said[3] = said[4]
    assert heads.pearson(said, true).value == pytest.approx(stats.pearsonr(said, true).statistic)
    assert heads.spearman(said, true).value == pytest.approx(stats.spearmanr(said, true).statistic)
    assert heads.mae(said, true).value == pytest.approx(metrics.mean_absolute_error(true, said))
    assert heads.mse(said, true).value == pytest.approx(metrics.mean_squared_error(true, said))
    assert heads.pearson(np.full(50, 2.5), true).value == 0.0


def counted(tags: list[str]) -> set[tuple[str, int, int]]:
    """Find entities by walking over the tags once, after conlleval's rule for IOB2 with stray I."""
    found, open_at, kind = set(), None, None
    for place, tag in enumerate([*tags, "O"]):
        letter, _, name = tag.partition("-")
        if open_at is not None and (letter == "O" or letter == "B" or name != kind):
            found.add((kind, open_at, place))
            open_at = None
        if letter != "O" and open_at is None:
            open_at, kind = place, name
    return found


def test_entities_are_seqevals_and_those_counted_here() -> None:
    draw = np.random.default_rng(1)
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    rows = [[names[i] for i in draw.choice(5, 12, p=[0.4, 0.15, 0.15, 0.15, 0.15])] for _ in range(80)]
    others = [[tag if draw.random() < 0.7 else "O" for tag in row] for row in rows]
    said, true = [" ".join(row) for row in others], [" ".join(row) for row in rows]
    pairs = [(counted(a), counted(b)) for a, b in zip(others, rows, strict=True)]
    right = sum(len(a & b) for a, b in pairs)
    named, there = sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs)
    for ours, of_seqeval, by_count in (
        (entity_precision, precision_score, right / named),
        (entity_recall, recall_score, right / there),
        (entity_f1, f1_score, 2 * right / (named + there)),
    ):
        assert ours(said, true).value == pytest.approx(of_seqeval(rows, others)) == pytest.approx(by_count)
