"""Every price changes what an answer costs."""

from tests.observed.seen import Cases, Change, unseen

from luthier.advise.verdict.costs import Request, per_thousand
from luthier.advise.verdict.prices import Prices

CASES: Cases = {
    Prices: {
        "machine_hour": 2.0,
        "prompt_million": 1.0,
        "answer_million": Change(5.0, {"prompt_million": 1.0}),
    }
}


def test_every_price_is_seen_in_the_costs() -> None:
    request = Request(prompt_tokens=300, answer_tokens=20, seconds=1.8)
    assert unseen(Prices, CASES[Prices], lambda prices: per_thousand(request, prices, hosted=True)) == []
