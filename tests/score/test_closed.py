"""Reading labels, accuracy, macro-F1 (against scikit-learn) and confusion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from luthier.core.errors import DataError
from luthier.score import closed

LABELS = ["positive", "negative", "very positive", "C++"]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("positive", "positive"),
        (" Positive.\n", "positive"),
        ("VERY POSITIVE!", "very positive"),
        ("The answer is: positive.", "positive"),
        ("It is **very positive**", "very positive"),
        ('"negative"', "negative"),
        ("negative\nReview: more\nSentiment: positive", "negative"),
        ("c++", "C++"),
        ("positive or negative", None),
        ("Negative. It is not positive.", "negative"),
        ("C++: neither positive nor negative", "C++"),
        ("not positive", "positive"),
        ("positively", None),
        ("", None),
        ("no idea", None),
    ],
)
def test_reads_what_an_answer_means(answer: str, label: str | None) -> None:
    assert closed.read_labels([answer], LABELS) == [label]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("good", "good"),
        ("Not good.", "not good"),
        ("It is not good", "not good"),
        ("It is good", "good"),
        ("not good, though some find it good", None),
        ("*NOT GOOD*", "not good"),
        ("goodness", None),
    ],
)
def test_a_label_inside_another_is_not_mistaken_for_it(answer: str, label: str | None) -> None:
    assert closed.read_labels([answer], ["good", "not good"]) == [label]


@pytest.mark.parametrize(
    ("answer", "label"), [("答案是积极的。", "积极"), ("消极", "消极"), ("积极还是消极", None), ("긍정입니다", "긍정")]
)
def test_scripts_without_spaces_are_read_too(answer: str, label: str | None) -> None:
    assert closed.read_labels([answer], ["积极", "消极", "긍정"]) == [label]


def test_labels_that_differ_in_case_only_are_read_letter_for_letter() -> None:
    assert closed.read_labels(["Yes", "yes", "YES"], ["Yes", "yes"]) == ["Yes", "yes", None]


def test_a_label_of_punctuation_is_not_an_empty_answer() -> None:
    assert closed.read_labels(["?", "", "!"], ["?", "!"]) == ["?", None, "!"]


def test_format_is_strict_where_accuracy_is_patient() -> None:
    answers, references = ["positive", "It is positive.", "negative"], ["positive", "positive", "positive"]
    assert closed.accuracy(answers, references, LABELS).per_row.tolist() == [1, 1, 0]
    assert closed.format_followed(answers, references, LABELS).per_row.tolist() == [1, 0, 1]


def test_a_reference_outside_the_labels_joins_them() -> None:
    scores = closed.accuracy(["new", "a"], ["new", "a"], ["a", "b"])
    assert scores.value == 1
    assert closed.confusion(["new"], ["new"], ["a"]) == {"new": {"new": 1}}


def test_confusion_counts_by_true_then_answered_label() -> None:
    table = closed.confusion(["a", "b", "what?", "b"], ["a", "a", "a", "b"], ["a", "b", "c"])
    assert table == {"a": {"a": 1, "b": 1, closed.OTHER: 1}, "b": {"b": 1}}


def test_macro_f1_by_hand() -> None:
    # a: TP 1, true 2, answered 1 → 2/3; b: TP 1, true 1, answered 2 → 2/3; c: never met.
    assert closed.macro_f1(["a", "b", "b"], ["a", "a", "b"], ["a", "b", "c"]).value == pytest.approx(2 / 3)


words = st.sampled_from(["a", "b", "c", "d"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words | st.just("(none)"), words), min_size=1, max_size=30))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    answers, references = [a for a, _ in pairs], [r for _, r in pairs]
    labels = ["a", "b", "c", "d"]
    theirs = f1_score(references, answers, labels=labels, average="macro", zero_division=np.nan)
    assert closed.macro_f1(answers, references, labels).value == pytest.approx(theirs)


def test_no_rows_are_refused() -> None:
    for scorer in (closed.accuracy, closed.macro_f1, closed.format_followed):
        with pytest.raises(DataError, match="no rows"):
            scorer([], [], LABELS)
