import pytest

from luthier.advise.verdict.costs import Request, break_even, per_thousand
from luthier.advise.verdict.prices import Prices

ASKED = Request(prompt_tokens=300, answer_tokens=20, seconds=1.8)


def test_the_own_machine_costs_its_time() -> None:
    assert per_thousand(ASKED, Prices(machine_hour=2.0), hosted=False) == pytest.approx(1000 * 1.8 / 3600 * 2.0)


@pytest.mark.parametrize(("answer", "expected"), [(10.0, 0.3 + 0.2), (None, 0.3 + 0.02)])
def test_a_hosted_model_costs_its_tokens(answer: float | None, expected: float) -> None:
    prices = Prices(machine_hour=2.0, prompt_million=1.0, answer_million=answer)
    assert per_thousand(ASKED, prices, hosted=True) == pytest.approx(expected)
    assert per_thousand(ASKED, prices, hosted=False) == pytest.approx(1.0)


def test_a_tuning_pays_for_itself_after_so_many_requests() -> None:
    assert break_even(5.0, before=0.6, after=0.1) == 10_000
    assert break_even(5.0, before=0.1, after=0.1) is None
