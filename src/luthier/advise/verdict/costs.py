"""What answers cost, and after how many of them a tuning has paid for itself."""

import math
from dataclasses import dataclass

from pydantic import Field

from luthier.core.spec import Spec

HOUR_S = 3600
REQUESTS = 1000


class Prices(Spec):
    """Prices in any one currency; the defaults are a guess for a small machine, yours belong here."""

    machine_hour: float = Field(0.10, ge=0)
    """An hour of the machine that trains and answers: power, wear, or rent."""
    prompt_million: float | None = Field(None, ge=0)
    """A million prompt tokens at a hosted model, where the untuned one is asked there."""
    answer_million: float | None = Field(None, ge=0)
    """A million answer tokens there."""


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
