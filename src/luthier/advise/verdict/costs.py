"""What answers cost, and after how many of them a tuning has paid for itself."""

import math
from dataclasses import dataclass

from luthier.advise.verdict.prices import Prices

HOUR_S = 3600
REQUESTS = 1000


@dataclass(frozen=True)
class Request:
    """What one request needs on average."""

    prompt_tokens: float
    answer_tokens: float
    seconds: float


def per_thousand(request: Request, prices: Prices, *, hosted: bool) -> float:
    """Return the cost of 1,000 requests: by time on the own machine, by tokens where a hosted price is set."""
    if hosted and prices.prompt_million is not None:
        answer_price = prices.answer_million if prices.answer_million is not None else prices.prompt_million
        tokens = request.prompt_tokens * prices.prompt_million + request.answer_tokens * answer_price
        return REQUESTS * tokens / 1e6
    return REQUESTS * request.seconds / HOUR_S * prices.machine_hour


def break_even(spent: float, *, before: float, after: float) -> int | None:
    """Return after how many requests `spent` is saved, at costs per 1,000 before and after; None where it never is."""
    if after >= before:
        return None
    return math.ceil(REQUESTS * spent / (before - after))
