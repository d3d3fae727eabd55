"""The space of a search: which values of the recipe are tried, and how they are chosen."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from luthier.core.spec import Spec
from luthier.jobs.search.strategy import Strategy


class NumberRange(Spec):
    """What both kinds of numbers have in common."""

    low: float
    """The least value."""
    high: float
    """The greatest value."""
    log: bool = False
    """Whether each power is as likely as the next."""
    step: float | None = Field(None, gt=0)
    """Distance between values."""

    @model_validator(mode="after")
    def _is_range(self) -> Self:
        _check_range(self.low, self.high, log=self.log, step=self.step)
        return self

    @property
    def ends(self) -> list[Any]:
        """The values that the recipe must take for all between them to be taken."""
        return [self.low, self.high]

    @property
    def is_number(self) -> bool:
        """Whether values have an order and a distance."""
        return True


class FloatRange(NumberRange):
    """A number between two limits."""

    type: Literal["float"]
    """The word that picks this kind."""
    step: float | None = Field(None, gt=0)
    """Distance between values; any value between the limits when unset."""

    def points(self) -> list[Any] | None:
        """Return all values, or None where they are without number."""
        if self.step is None:
            return [self.low] if self.low == self.high else None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + number * self.step for number in range(count)]


class IntRange(NumberRange):
    """A whole number between two limits."""

    type: Literal["int"]
    """The word that picks this kind."""
    low: int
    """The least value."""
    high: int
    """The greatest value."""
    step: int | None = Field(None, ge=1)
    """Distance between values; 1 when unset."""

    def points(self) -> list[Any] | None:
        """Return all values."""
        return list(range(self.low, self.high + 1, self.step or 1))


class Choice(Spec):
    """One of several values."""

    type: Literal["choice"]
    """The word that picks this kind."""
    values: Annotated[tuple[Any, ...], Field(min_length=1)]
    """Numbers, words, `null`, or lists of them."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        written = [json.dumps(value) for value in self.values]
        twice = next((text for text in written if written.count(text) > 1), None)
        if twice:
            raise ValueError(f"the value {twice} stands there twice")
        return self

    @property
    def ends(self) -> list[Any]:
        """The values that the recipe must take: all of them."""
        return list(self.values)

    @property
    def is_number(self) -> bool:
        """Whether values have an order and a distance."""
        return False

    def points(self) -> list[Any] | None:
        """Return all values."""
        return list(self.values)


Range = FloatRange | IntRange | Choice
KINDS: dict[str, type[Range]] = {"float": FloatRange, "int": IntRange, "choice": Choice}


def _check_range(low: float, high: float, *, log: bool, step: float | None) -> None:
    if low > high:
        raise ValueError(f"`low` ({low:g}) is above `high` ({high:g})")
    if log and low <= 0:
        raise ValueError(f"a logarithm needs numbers above 0, and `low` is {low:g}")
    if log and step is not None:
        raise ValueError("`log` and `step` do not go together: keep one of them")


@dataclass(frozen=True)
class Dimension:
    """One value of the recipe that is searched."""

    key: str
    """The name it has in the space file."""
    path: str
    """The recipe's field: `train.learning_rate`."""
    range: Range

    def holds(self, value: Any) -> bool:
        """Tell whether a value lies within."""
        match self.range:
            case Choice(values=values):
                return json.dumps(value) in map(json.dumps, values)
            case IntRange() if isinstance(value, bool) or not isinstance(value, int):
                return False
            case _ if isinstance(value, bool) or not isinstance(value, int | float):
                return False
        points = self.range.points() if self.range.step is not None else None
        inside = self.range.low <= value <= self.range.high
        return inside and (points is None or any(abs(value - point) < 1e-12 for point in points))


@dataclass(frozen=True)
class Space:
    """A space file, read and checked."""

    strategy: Strategy
    dimensions: tuple[Dimension, ...]

    def points(self) -> int | None:
        """Return how many points a grid has, or None where a dimension has no grid."""
        count = 1
        for dimension in self.dimensions:
            points = dimension.range.points()
            if points is None:
                return None
            count *= len(points)
        return count

    @property
    def trials(self) -> int:
        """How many trials there are beside the recipe's own values."""
        points = self.points() if self.strategy.type == "grid" else None
        return min(self.strategy.num_trials, points) if points is not None else self.strategy.num_trials
