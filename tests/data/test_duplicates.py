"""Near-duplicates: found where texts nearly agree, and not where only the instruction does."""

import random

import numpy as np
import pytest
from tests.data.made import sentence

from luthier.data.duplicates import Groups, Shingler, join_equal, near_duplicates, own_text
from luthier.examples.example import Example, Message


def grouped(texts: list[str], threshold: float = 0.9) -> list[list[int]]:
    """Return the groups of two or more texts."""
    shingler = Shingler(texts)
    signatures = np.stack([shingler.signature(text) for text in texts])
    roots = near_duplicates(signatures, lambda row: shingler.shingles(texts[row]), threshold).roots()
    return [np.flatnonzero(roots == root).tolist() for root in np.unique(roots) if np.sum(roots == root) > 1]


def texts(count: int, words: int = 40) -> list[str]:
    draw = random.Random(5)
    return [sentence(draw, words) for _ in range(count)]


def test_nearly_equal_texts_are_grouped_and_others_are_not() -> None:
    made = texts(60)
    made[50] = made[3] + " more"
    made[51] = made[3].upper().replace(" ", "  ")
    made[52] = made[7][:-3]
    assert grouped(made) == [[3, 50, 51], [7, 52]]


def test_a_long_instruction_makes_no_near_duplicates() -> None:
    instruction = "Classify the text. " + sentence(random.Random(6), 180)
    made = [f"{instruction}\n\n{text}" for text in texts(60, 5)]
    made[40] = made[2].replace("Classify", "classify")
    assert grouped(made) == [[2, 40]]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_the_threshold_is_the_share_of_shingles(threshold: float) -> None:
    def pair(kept: int) -> list[str]:
        first = texts(30, 200)
        words = first[0].split()
        return [*first, " ".join(words[:kept] + texts(31, 200)[-1].split()[kept:])]

    overlap = {kept: _overlap(pair(kept)) for kept in range(80, 200, 4)}
    found = {kept for kept in overlap if grouped(pair(kept), threshold)}
    assert found == {kept for kept, share in overlap.items() if share >= threshold}


def _overlap(made: list[str]) -> float:
    shingler = Shingler(made)
    one, other = (set(shingler.shingles(made[row]).tolist()) for row in (0, -1))
    return len(one & other) / len(one | other)


def test_threshold_one_groups_equal_texts_only() -> None:
    made = texts(20)
    made[10], made[11] = made[0], made[1] + " x"
    assert grouped(made, 1.0) == [[0, 10]]


def test_groups_do_not_depend_on_chance() -> None:
    made = texts(40) + [text + "." for text in texts(40)]
    assert grouped(made) == grouped(made) == [[row, row + 40] for row in range(40)]


def test_empty_and_tiny_texts_are_compared_too() -> None:
    assert grouped(["", "a", "a", "b" * 100_000]) == [[1, 2]]


def test_equal_keys_join_but_common_ones_do_not() -> None:
    groups = Groups(6)
    join_equal(groups, np.array([5, 5, 9, 9, 9, 0]), most=2)
    assert groups.roots().tolist() == [0, 0, 2, 3, 4, 5]


def test_system_messages_are_not_a_rows_own() -> None:
    messages = (Message(role="system", content="S"), Message(role="user", content="Q"))
    example = Example(messages=(*messages, Message(role="assistant", content="A", tool_calls=({"f": 1},))))
    assert own_text(example) == 'Q\nA\n{"f": 1}'
