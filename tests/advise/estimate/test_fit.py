import pytest

from luthier.advise.estimate.fit import fit


def test_a_line_is_found_again() -> None:
    line = fit([100, 200, 300], [0.3, 0.5, 0.7])
    assert line.fixed == pytest.approx(0.1) and line.slope == pytest.approx(0.002)


def test_one_busy_moment_does_not_bend_it() -> None:
    line = fit([100, 200, 300, 400, 500], [0.3, 0.5, 7.0, 0.9, 1.1])
    assert line(1000) == pytest.approx(2.1, rel=0.05)


def test_amounts_that_hardly_differ_give_a_line_through_zero() -> None:
    assert fit([100, 101], [1.0, 1.2]).fixed == 0


@pytest.mark.parametrize("seconds", [[3.0, 2.0, 1.0], [0.0, 1.0, 8.0], [1.0, 1.0, 1.0]])
def test_neither_part_is_negative(seconds: list[float]) -> None:
    assert min(fit([100, 200, 300], seconds)) >= 0


def test_a_single_point_and_none_that_counts() -> None:
    assert fit([50], [1.0])(100) == pytest.approx(2.0)
    assert fit([0], [1.0])(100) == 1.0
