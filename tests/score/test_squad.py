"""SQuAD's metrics: against a count of our own, and with several answers or none."""

import collections
import re
import string

import pytest

from luthier.core.errors import DataError
from luthier.score.metrics import score
from luthier.score.squad import fitting

ROWS = [
    ("The Café, in Paris", ["Cafe in Paris", "café"]),
    ("a dog", ["The dog!", "dog of war"]),
    ("in 1999", ["1999", "the year 1999"]),
    ("", []),
    ("no answer", []),
    ("Ada", []),
    ("", ["Ada"]),
    ("😀 smile", ["😀", "smile 😀 smile"]),
    ("the", ["an"]),
]
ANSWERS, ACCEPTED = [answer for answer, _ in ROWS], [right for _, right in ROWS]


def words(text: str) -> list[str]:
    kept = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def counted(answer: str, right: list[str]) -> tuple[float, float]:
    """Exact match and F1 of one row, counted word by word."""
    answer = "" if answer == "no answer" else answer
    best = (0.0, 0.0)
    for one in [one for one in right if words(one)] or [""]:
        said, true = words(answer), collections.Counter(words(one))
        shared = 0
        for word in said:
            if true[word]:
                true[word] -= 1
                shared += 1
        length = len(said) + len(words(one))
        f1 = 2 * shared / length if length else 1.0
        best = max(best[0], float(said == words(one))), max(best[1], f1)
    return best


def test_metrics_are_an_independent_count() -> None:
    both = [counted(*row) for row in ROWS]
    has = [bool([one for one in right if words(one)]) for right in ACCEPTED]
    em, f1 = ([row[side] for row in both] for side in (0, 1))
    assert score("squad_em", ANSWERS, [""] * 9, accepted=ACCEPTED).per_row.tolist() == em
    assert score("squad_f1", ANSWERS, [""] * 9, accepted=ACCEPTED).per_row.tolist() == pytest.approx(f1)
    assert sum(em) == 4 and 0.5 < sum(f1) / 9 < 0.75
    for metric, rows, wanted in (
        ("has_answer_em", em, True),
        ("has_answer_f1", f1, True),
        ("no_answer_accuracy", em, False),
    ):
        kept = [row for row, is_there in zip(rows, has, strict=True) if is_there == wanted]
        assert score(metric, ANSWERS, [""] * 9, accepted=ACCEPTED).value == pytest.approx(sum(kept) / len(kept))


def test_one_reference_is_one_accepted_answer() -> None:
    assert score("squad_em", ["The dog.", "no answer"], ["dog", "no answer"]).value == 1


def test_rows_are_parted_only_where_they_differ() -> None:
    metrics = ("squad_f1", "has_answer_f1", "no_answer_accuracy")
    assert fitting(metrics, ACCEPTED) == metrics
    assert fitting(metrics, [["x"], ["y"]]) == ("squad_f1",)
    assert fitting(metrics, [[], []]) == ("squad_f1", "no_answer_accuracy")
    with pytest.raises(DataError, match="`no_answer_accuracy` measures nothing"):
        fitting(("no_answer_accuracy",), [["x"]])
