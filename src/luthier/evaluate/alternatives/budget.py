"""The time budget: what is measured, what is not, and why."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

FLOP_PER_TOKEN = 2
"""Floating-point operations per token and weight of a forward pass."""
FLOP_PER_S_AND_CORE = 60e9
"""A guess of what answering in small batches does; from the second alternative on, seconds are measured."""
ANSWER_COST = 4
"""A guess: a written token costs as much as so many read ones, since there is little to compute at once."""


@dataclass
class Budget:
    """Seconds to spend; what does not fit is left out and listed."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    left_out: dict[str, str] = field(default_factory=dict)
    """What was not measured, and why."""
    reserved: float = 0.0
    """Seconds that are kept for what comes later."""

    def __post_init__(self) -> None:
        """Begin to count."""
        self.started = self.clock()

    @property
    def left(self) -> float:
        """Seconds that may be used now; below zero where more was."""
        return self.seconds - (self.clock() - self.started) - self.reserved

    def allows(self, name: str, seconds: float) -> bool:
        """Say whether something that is expected to take so long still fits; if not, list it as left out."""
        if seconds <= self.left:
            return True
        self.left_out[name] = f"it would take about {_time(seconds)}, and {_time(max(0.0, self.left))} are left"
        return False


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def halvings(wanted: float, affordable: float, *, least: float) -> float:
    """Return `wanted`, halved until it is affordable or at its least: the same on every run of one machine."""
    while wanted > affordable and wanted > least:
        wanted = max(least, wanted / 2)
    return wanted
