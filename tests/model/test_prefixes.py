"""Grouping prompts by their beginnings, and cutting rows into batches."""

from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.model.prefixes import Group, batches, common_prefix, group_by_prefix

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=40)


def test_one_instruction_is_one_group() -> None:
    instruction = list(range(100, 150))
    prompts = [[*instruction, number, number + 1] for number in range(20)]
    assert group_by_prefix(prompts) == [Group(50, tuple(range(20)))]


def test_a_stranger_does_not_break_a_group() -> None:
    prompts = [[*range(100, 150), number] for number in range(20)] + [[1, 2], [3, 4]]
    assert group_by_prefix(prompts) == [Group(50, tuple(range(20))), Group(0, (20, 21))]


def test_equal_prompts_keep_their_last_token() -> None:
    assert group_by_prefix([[7] * 500] * 3) == [Group(499, (0, 1, 2))]


def test_short_beginnings_are_not_worth_a_group() -> None:
    assert group_by_prefix([[1, 2, 3, 4], [1, 2, 3, 5]]) == [Group(0, (0, 1))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(TOKENS, TOKENS.map(lambda ids: [9] * 60 + ids)), max_size=30))
def test_every_row_is_in_one_group_and_begins_with_its_prefix(prompts: list[list[int]]) -> None:
    groups = group_by_prefix(prompts)
    assert sorted(row for group in groups for row in group.rows) == list(range(len(prompts)))
    for group in groups:
        first = prompts[group.rows[0]]
        assert all(common_prefix(first, prompts[row]) >= group.shared < len(prompts[row]) for row in group.rows)


def test_batches_hold_the_budget_and_every_row_once() -> None:
    lengths = [5, 100, 7, 60, 7]
    cut = batches(range(5), lengths, tokens=64, rows_at_most=3)
    assert cut == [[1], [3], [2, 4, 0]]
    assert batches(range(5), [1] * 5, tokens=64, rows_at_most=2) == [[0, 1], [2, 3], [4]]
