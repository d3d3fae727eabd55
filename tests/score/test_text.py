"""Text metrics against hand-computed values, rouge-score and sacrebleu."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from luthier.core.errors import DataError
from luthier.score import text

vocabulary = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "Über", "it's", "42", ".", "日本"])
sentences = st.lists(vocabulary, max_size=12).map(" ".join)
pairs = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=8)


def test_exact_match_ignores_only_outer_space_and_json_layout() -> None:
    assert text.exact_match(" yes\n", "yes") == 1
    assert text.exact_match("Yes", "yes") == 0
    assert text.exact_match('{"b": [1, {}], "a": 1.0}', '{"a":1,"b":[1,{}]}') == 1
    assert text.exact_match('{"a": true}', '{"a": 1}') == 0
    assert text.exact_match("cafe\u0301", "caf\u00e9") == 1


def test_token_f1_by_hand() -> None:
    # Words: cat sat down / cat sat; precision 2/3, recall 1.
    assert text.token_f1("The cat sat down.", "a cat sat") == pytest.approx(0.8)
    assert text.token_f1("the", "an") == 1
    assert text.token_f1("", "word") == 0
    assert text.token_f1("dog dog dog", "dog") == pytest.approx(0.5)


def test_rouge_l_by_hand() -> None:
    # Lin 2004: "police kill the gunman" against "police killed the gunman" has a subsequence of 3 of 4 words.
    assert text.rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    assert text.rouge_l("", "police") == 0


def test_rouge_l_reads_other_scripts() -> None:
    assert text.rouge_l("Привет, мир", "привет мир") == 1


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=40), st.text(st.characters(max_codepoint=127), max_size=40))
def test_rouge_l_is_rouge_scores_own_on_ascii(answer: str, reference: str) -> None:
    theirs = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert text.rouge_l(answer, reference) == theirs


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_bleu_and_chrf_are_sacrebleus(rows: list[tuple[str, str]]) -> None:
    answers, references = [a for a, _ in rows], [r for _, r in rows]
    assert text.bleu(answers, references).value == pytest.approx(BLEU().corpus_score(answers, [references]).score)
    assert text.chrf(answers, references).value == pytest.approx(CHRF().corpus_score(answers, [references]).score)
    for scores, metric in ((text.bleu, BLEU(effective_order=True)), (text.chrf, CHRF())):
        theirs = [metric.sentence_score(a, [r]).score for a, r in rows]
        assert np.allclose(scores(answers, references).per_row, theirs)


@settings(max_examples=60, deadline=None)
@given(sentences, sentences)
def test_scores_stay_in_range_and_equal_texts_are_perfect(answer: str, reference: str) -> None:
    for metric in (text.exact_match, text.token_f1, text.rouge_l):
        assert 0 <= metric(answer, reference) <= 1
    assert text.exact_match(answer, answer) == text.token_f1(answer, answer) == 1


@pytest.mark.parametrize("metric", [text.bleu, text.chrf])
def test_no_rows_are_refused(metric: object) -> None:
    with pytest.raises(DataError):
        metric([], [])  # type: ignore[operator]
