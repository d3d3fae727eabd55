"""What a request and an hour cost, as the user sets it."""

from pydantic import Field

from luthier.core.spec import Spec


class Prices(Spec):
    """Prices in any one currency; the defaults are a guess for a small machine, yours belong here."""

    machine_hour: float = Field(0.10, ge=0)
    """An hour of the machine that trains and answers: power, wear, or rent."""
    prompt_million: float | None = Field(None, ge=0)
    """A million prompt tokens at a hosted model, where the untuned one is asked there."""
    answer_million: float | None = Field(None, ge=0)
    """A million answer tokens there."""
