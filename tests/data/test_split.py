"""Splits: shares, groups, strata, and a pure function of seed and content."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from luthier.data.spec import SplitSpec
from luthier.data.split import Rows, assign


def rows(groups: list[int], strata: list[int] | None = None) -> Rows:
    keys = np.array([hash_of(index) for index in range(len(groups))], dtype=np.uint64)
    return Rows(np.array(groups), keys, np.array(strata or [0] * len(groups)))


def groups_in(groups: list[int], parts: np.ndarray, part: int) -> set[int]:
    return {group for group, found in zip(groups, parts, strict=True) if found == part}


def hash_of(index: int) -> int:
    return (index + 1) * 0x9E3779B97F4A7C15 % (1 << 64)


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(0, 30), min_size=5, max_size=80),
    shares=st.sampled_from([(0.1, 0.1), (0.0, 0.3), (0.25, 0.0), (0.2, 0.4)]),
    seed=st.integers(0, 5),
)
def test_groups_stay_whole_and_exceed_a_share_only_alone(
    groups: list[int], shares: tuple[float, float], seed: int
) -> None:
    validation, test = shares
    parts = assign(rows(groups), validation=validation, test=test, seed=seed)
    for group in set(groups):
        assert len(set(parts[np.array(groups) == group])) == 1
    for part, share in ((1, validation), (2, test)):
        held = groups_in(groups, parts, part)
        assert np.sum(parts == part) <= round(share * len(groups)) or len(held) == 1
    assert np.any(parts == 0)


def test_single_rows_fill_the_shares_exactly() -> None:
    parts = assign(rows(list(range(200))), validation=0.1, test=0.2, seed=7)
    assert np.bincount(parts).tolist() == [140, 20, 40]


def test_labels_keep_their_shares() -> None:
    strata = [0] * 100 + [1] * 50 + [2] * 10
    parts = assign(rows(list(range(160)), strata), validation=0.1, test=0.1, seed=7)
    for stratum, count in ((0, 100), (1, 50), (2, 10)):
        found = parts[np.array(strata) == stratum]
        assert [int(np.sum(found == part)) for part in (1, 2)] == [count // 10, count // 10]


def test_a_label_of_one_row_stays_in_training() -> None:
    strata = [0] * 30 + [1]
    parts = assign(rows(list(range(31)), strata), validation=0.3, test=0.3, seed=7)
    assert parts[30] == 0


def test_the_order_of_rows_plays_no_part() -> None:
    made = rows([index // 2 for index in range(60)], [index % 3 for index in range(0, 60) for _ in "x"])
    order = np.random.default_rng(3).permutation(60)
    shuffled = Rows(made.groups[order], made.keys[order], made.strata[order])
    options = {"validation": 0.2, "test": 0.2}
    plain = assign(made, seed=7, **options)
    assert np.array_equal(assign(shuffled, seed=7, **options), plain[order])
    assert not np.array_equal(assign(made, seed=8, **options), plain)


def test_two_rows_keep_one_to_train_on() -> None:
    parts = assign(rows([0, 1]), validation=0.0, test=0.9, seed=7)
    assert sorted(parts.tolist()) == [0, 2]


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="nothing to train on"):
        SplitSpec(validation=0.5, test=0.5)


def test_groups_larger_than_a_share_are_held_out_one_by_one() -> None:
    parts = assign(rows([index // 15 for index in range(120)]), validation=0.1, test=0.1, seed=7)
    assert np.bincount(parts).tolist() == [90, 15, 15]


def test_one_group_of_all_rows_is_not_torn_apart() -> None:
    assert assign(rows([0] * 60), validation=0.1, test=0.1, seed=7).tolist() == [0] * 60
