"""What a run costs, from what an hour or a kilowatt-hour costs."""

from pydantic import BaseModel, ConfigDict, Field

from luthier.advise.estimate.result import Because, Cost

WATTS_PER_CORE = 15
"""A server's share of power per busy core, board and memory included; an assumption."""
HOUR_S = 3600.0


class Price(BaseModel):
    """What an hour of a machine costs, or a kilowatt-hour of its power."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    per_hour: float | None = Field(None, ge=0)
    per_kwh: float | None = Field(None, ge=0)
    watts: float | None = Field(None, gt=0)
    """What this machine takes from the wall, where it is known."""


def cost_of(seconds: float, price: Price | None, *, watts: float, watts_because: str) -> Cost | None:
    """Return the cost of so many seconds; hours and power add up where both are priced."""
    if price is None or (price.per_hour is None and price.per_kwh is None):
        return None
    hours, amount, said = seconds / HOUR_S, 0.0, []
    if price.per_hour is not None:
        amount += hours * price.per_hour
        said.append(f"{hours:.3g} h at {price.per_hour:g}")
    if price.per_kwh is not None:
        amount += hours * watts / 1000 * price.per_kwh
        said.append(f"{hours * watts / 1000:.3g} kWh at {price.per_kwh:g} ({watts_because})")
    return Cost(amount=amount, because=Because(source="computed", text=" and ".join(said)))


def watts_here(price: Price | None, *, cores: int) -> tuple[float, str]:
    """Return this machine's power, and why."""
    if price is not None and price.watts is not None:
        return price.watts, f"{price.watts:g} W as given"
    watts = cores * WATTS_PER_CORE
    return watts, f"{watts} W assumed, {WATTS_PER_CORE} a core"
