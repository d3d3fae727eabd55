"""Measures of nearness, each held against its library."""

import time

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu

from luthier.score.graders.spec import Metric
from luthier.score.graders.text_similarity import LONGEST, similarity

GIVEN, REFERENCE = "the cat sat on the mat today", "today a cat sat on the old mat"
METRICS = Metric.__args__


def embed(texts):
    return [
        [1.0, 0.0] if text.startswith("the") else [1.0, 1.0] if text.startswith("today") else [-1.0, 0.0]
        for text in texts
    ]


@pytest.mark.parametrize("metric", METRICS)
def test_all_measures_go_from_0_to_1(metric: Metric) -> None:
    same, near, far = (similarity(metric, given, REFERENCE, embed) for given in (REFERENCE, GIVEN, "xyz"))
    assert same > 0.99 and far < 0.35 and far <= near < same


@pytest.mark.parametrize("metric", METRICS)
def test_empty_texts_have_a_value(metric: Metric) -> None:
    values = [similarity(metric, given, reference, embed) for given in ("", "x") for reference in ("", "x")]
    assert all(0 <= value <= 1 for value in values)


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rouge3", "rouge4", "rouge5", "rougeL"])
def test_rouge_is_rouge_scores(kind: str) -> None:
    metric = "rouge_l" if kind == "rougeL" else f"rouge_{kind[-1]}"
    wanted = RougeScorer([kind]).score(REFERENCE, GIVEN)[kind].fmeasure
    assert similarity(metric, GIVEN, REFERENCE, embed) == pytest.approx(wanted)


def test_bleu_is_sacrebleus() -> None:
    wanted = sentence_bleu(GIVEN, [REFERENCE]).score / 100
    assert similarity("bleu", GIVEN, REFERENCE, embed) == pytest.approx(wanted)


def test_cosine_is_that_of_the_embeddings() -> None:
    assert similarity("cosine", GIVEN, REFERENCE, embed) == pytest.approx(2**-0.5)
    assert similarity("cosine", GIVEN, "xyz", embed) == 0.0


def test_meteor_counts_stems_and_needs_no_dictionary() -> None:
    assert similarity("meteor", "the cats sat here", "the cat sat here", embed) > 0.9
    # Synonyms need WordNet's data, which is not there: only the other words count.
    assert similarity("meteor", "a big house", "a large house", embed) < 0.9


def test_fuzzy_match_overlooks_case_and_punctuation() -> None:
    assert similarity("fuzzy_match", "HELLO WORLD.", "hello world", embed) == 1.0


def test_other_scripts_have_words() -> None:
    assert similarity("rouge_1", "Быстрая лиса прыгает", "Быстрая лиса спит", embed) == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", METRICS)
def test_long_texts_take_seconds_at_most(metric: Metric) -> None:
    given, reference = ("".join(f"{letter}{number % 97} " for number in range(LONGEST)) for letter in "ab")
    begin = time.perf_counter()
    assert similarity(metric, given, reference, lambda texts: [[1.0], [0.0]]) < 1
    assert time.perf_counter() - begin < 10
