"""The divergence is that of its definition, exact between equals, and a lower bound where an engine tells a part."""

import numpy as np
import pytest

from luthier.core.certificate import Share
from luthier.jobs.export.certify import Limits, allowed_stops
from luthier.jobs.export.diverging import divergence


def chances(seed: int, rows: int = 4, width: int = 500) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 3, (rows, width))
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def test_it_is_the_definitions() -> None:
    a, b = chances(1), chances(2)
    p, q = a.astype(np.float64), b.astype(np.float64)
    expected = (np.exp(p) * (p - q)).sum(-1)
    found = divergence([a], [b])
    assert found.mean == pytest.approx(expected.mean(), rel=1e-5) and found.worst == pytest.approx(
        expected.max(), rel=1e-5
    )
    assert found.positions == 4 and not found.is_partial


def test_equals_are_exact_whatever_fp32_leaves_of_the_sum() -> None:
    a = chances(1)
    assert divergence([a], [a + np.float32(1e-5)]).mean < 1e-12


def test_a_part_gives_a_lower_bound_that_comes_near() -> None:
    a, b = chances(1), chances(2)
    part = b.copy()
    part[b < np.sort(b, axis=-1)[:, -400, None]] = np.nan
    whole, found = divergence([a], [b]), divergence([a], [part])
    assert found.is_partial and 0.5 * whole.mean < found.mean <= whole.mean


def test_a_part_that_holds_nearly_all_is_not_spoilt_by_rounding() -> None:
    a = chances(1)
    part = a + np.float32(1e-5)
    part[a < np.sort(a, axis=-1)[:, -480, None]] = np.nan
    assert divergence([a], [part]).mean < 1e-4


def test_a_padded_vocabulary_is_compared_as_far_as_both_go() -> None:
    a = chances(1)
    padded = np.concatenate([a, np.full((4, 12), -90.0, dtype=np.float32)], axis=-1)
    assert divergence([a], [padded]).mean < 1e-12


@pytest.mark.parametrize(("of", "exact", "allowed"), [(20, True, 0), (20, False, 1), (270, True, 5), (270, False, 5)])
def test_few_answers_may_fewer_end_by_themselves(of: int, exact: bool, allowed: int) -> None:
    limit = allowed_stops(Share(count=of - 1, of=of), Limits(exact=exact, max_drop=0.01))
    assert allowed <= limit < allowed + 1
