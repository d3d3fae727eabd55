"""Paired tests: McNemar and randomisation against scipy, verdicts, ties and single rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from luthier.score.closed import macro_f1
from luthier.score.paired import compare, mcnemar, randomisation, won_lost
from luthier.score.perplexity import perplexity
from luthier.score.scores import Scores, mean_scores
from luthier.score.text import bleu, chrf
from luthier.score.verdict import outcome


def compared(a: Scores, b: Scores, resamples: int = 1000) -> object:
    return compare(a, b, names=("tuned", "zero-shot"), resamples=resamples, seed=7)


def test_mcnemar_by_hand() -> None:
    # 1 of 10 or as extreme, both sides: 2 · (1 + 10) / 2^10.
    assert mcnemar(1, 9) == pytest.approx(22 / 1024)
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(0, 0) == 1


def test_a_clear_gain_in_accuracy() -> None:
    a = mean_scores("accuracy", [1] * 80 + [0] * 20)
    b = mean_scores("accuracy", [1] * 50 + [0] * 50)
    found = compared(a, b)
    assert (found.a, found.b, found.metric, found.won, found.lost) == ("tuned", "zero-shot", "accuracy", 30, 0)
    assert found.difference == pytest.approx(0.3)
    assert 0.2 < found.low < 0.3 < found.high < 0.4
    assert found.p == pytest.approx(2 / 2**30)
    assert found.verdict.startswith("tuned is better: accuracy +0.300 [+0.2")
    assert found.verdict.endswith("p < 0.001; 30 rows won, 0 lost")


def test_turned_around_it_is_worse() -> None:
    a, b = mean_scores("accuracy", [1] * 20 + [0] * 20), mean_scores("accuracy", [1] * 35 + [0] * 5)
    found = compared(a, b)
    assert found.verdict.startswith("tuned is worse: accuracy −0.375")
    assert outcome(found) == "worse"


def test_equal_systems_show_no_difference() -> None:
    for scores in (
        mean_scores("accuracy", [1, 0, 1]),
        mean_scores("token_f1", [0.2, 0.9, 0.4]),
        perplexity([3.0, 5.0], [2, 2]),
    ):
        found = compared(scores, scores)
        assert (found.difference, found.p, found.won, found.lost) == (0, 1, 0, 0)
        assert found.low <= 0 <= found.high
        assert found.verdict.startswith("no detectable difference")


@pytest.mark.parametrize("name", ["accuracy", "token_f1"])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_never_decide(name: str, rows: int) -> None:
    found = compared(mean_scores(name, [1.0] * rows), mean_scores(name, [0.0] * rows))
    assert (found.difference, found.won) == (1, rows)
    assert found.p == pytest.approx(2 / 2**rows, abs=0.05)
    assert outcome(found) == "none"


def test_few_equal_rows_are_no_certainty() -> None:
    same = mean_scores("accuracy", [1, 0, 1])
    found = compared(same, same)
    assert found.low < -0.3 and found.high > 0.3


def test_a_verdict_of_better_is_rare_where_nothing_differs() -> None:
    generator = np.random.default_rng(0)
    said = []
    for _ in range(300):
        a, b = (mean_scores("accuracy", generator.integers(0, 2, 40).astype(float)) for _ in range(2))
        said.append(outcome(compare(a, b, names=("a", "b"), resamples=200, seed=1)))
    assert 1 - said.count("none") / len(said) <= 0.05


def test_lower_perplexity_is_better() -> None:
    generator = np.random.default_rng(3)
    tokens = [20] * 60
    before = generator.normal(60, 5, 60)
    found = compared(perplexity(before - 10, tokens), perplexity(before, tokens))
    assert found.difference < 0
    assert (found.won, found.lost) == (60, 0)
    assert found.verdict.startswith("tuned is better: perplexity −")


def test_randomisation_is_scipys_sign_flip() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.random(30), generator.random(30) + 0.1
    theirs = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1).pvalue
    ours = randomisation(mean_scores("token_f1", a), mean_scores("token_f1", b), resamples=20_000, seed=2)
    assert ours == pytest.approx(theirs, abs=0.015)


def test_corpus_metrics_are_tested_on_the_corpus() -> None:
    references = [f"the cat number {i} sat on the mat" for i in range(40)]
    good = [r.replace("mat", "rug") for r in references]
    bad = ["a dog ran " + str(i) for i in range(40)]
    for scorer in (bleu, chrf):
        found = compared(scorer(good, references), scorer(bad, references))
        assert found.difference == pytest.approx(scorer(good, references).value - scorer(bad, references).value)
        assert (outcome(found), found.won, found.p) == ("better", 40, pytest.approx(1 / 1001))


def test_macro_f1_sees_what_accuracy_hides() -> None:
    references = ["a"] * 90 + ["b"] * 10
    always_a = ["a"] * 100
    found = compared(macro_f1(references, references, ["a", "b"]), macro_f1(always_a, references, ["a", "b"]))
    assert found.difference == pytest.approx(1 - (180 / 190) / 2)
    assert outcome(found) == "better"


def test_p_is_small_about_as_often_as_it_says_where_nothing_differs() -> None:
    generator = np.random.default_rng(0)
    p = []
    for seed in range(150):
        a, b = (mean_scores("token_f1", generator.beta(2, 3, 30)) for _ in range(2))
        p.append(randomisation(a, b, resamples=200, seed=seed))
    assert 0.005 <= np.mean(np.array(p) < 0.05) <= 0.11


rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_order_changes_nothing_and_sides_mirror(values: list[tuple[int, int, float]], random: object) -> None:
    def both(name: str, pairs: list[tuple[int, int, float]]) -> tuple[Scores, Scores]:
        one = [a * c if name == "token_f1" else a for a, _, c in pairs]
        return mean_scores(name, one), mean_scores(name, [b for _, b, _ in pairs])

    for name in ("accuracy", "token_f1"):
        a, b = both(name, values)
        found = compare(a, b, names=("a", "b"), resamples=200, seed=5)
        shuffled = list(values)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert compare(*both(name, shuffled), names=("a", "b"), resamples=200, seed=5) == found
        mirrored = compare(b, a, names=("b", "a"), resamples=200, seed=5)
        assert mirrored.difference == pytest.approx(-found.difference)
        assert won_lost(b, a) == (found.lost, found.won)
        assert found.low <= found.difference <= found.high
        assert 0 < found.p <= 1
        assert not math.isnan(found.low)


def test_other_rows_or_metrics_are_no_pair() -> None:
    with pytest.raises(ValueError, match="not a pair"):
        compared(mean_scores("accuracy", [1, 0]), mean_scores("accuracy", [1]))
    with pytest.raises(ValueError, match="not a pair"):
        compared(mean_scores("accuracy", [1]), mean_scores("bleu", [1]))
