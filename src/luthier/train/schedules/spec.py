"""The schedules a recipe may name; each begins after the warm-up, `train.warmup`, at the full rate."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Spec


class Schedule(Spec):
    """What all schedules say of themselves."""

    watches: ClassVar[bool] = False
    """Whether it needs validation rows."""

    def share(self, done: float) -> float:
        """Return the share of the peak rate when so much of the time after the warm-up is over."""
        return 1.0


class Cosine(Schedule):
    """Half a cosine wave down to zero."""

    name: Literal["cosine"] = "cosine"
    """The schedule's name in a recipe."""

    def share(self, done: float) -> float:
        """Return the share of the peak rate."""
        return 0.5 * (1 + math.cos(math.pi * done))


class Linear(Schedule):
    """A straight line down to zero."""

    name: Literal["linear"] = "linear"
    """The schedule's name in a recipe."""

    def share(self, done: float) -> float:
        """Return the share of the peak rate."""
        return 1 - done


class Constant(Schedule):
    """The full rate to the end."""

    name: Literal["constant"] = "constant"
    """The schedule's name in a recipe."""


class Wsd(Schedule):
    """Warm-up, stable, decay: the full rate, then a straight line down (Hu et al. 2024, arXiv:2404.06395)."""

    name: Literal["wsd"] = "wsd"
    """The schedule's name in a recipe."""
    decay: float = Field(0.2, gt=0, le=1)
    """Share of the time after the warm-up in which the rate falls."""
    lowest: float = Field(0.0, ge=0, lt=1)
    """Share of the peak rate that the fall ends at."""

    def share(self, done: float) -> float:
        """Return the share of the peak rate."""
        fallen = max(0.0, (done - (1 - self.decay)) / self.decay)
        return 1 - (1 - self.lowest) * fallen


class Plateau(Schedule):
    """The rate falls each time the validation loss no longer does; needs a validation split."""

    name: Literal["plateau"] = "plateau"
    """The schedule's name in a recipe."""
    factor: float = Field(0.5, gt=0, lt=1)
    """What the rate is multiplied by."""
    patience: int = Field(2, ge=1)
    """Validations in a row without improvement before the rate falls."""
    min_delta: float = Field(0.0, ge=0)
    """The least fall of the validation loss that counts as improvement."""
    lowest: float = Field(0.01, ge=0, lt=1)
    """Share of the peak rate below which it does not fall."""

    watches: ClassVar[bool] = True


ScheduleSpec = Annotated[Cosine | Linear | Constant | Wsd | Plateau, Field(discriminator="name")]
