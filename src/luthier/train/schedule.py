"""The learning rate over a run."""

import math
from typing import Literal


def learning_rate(
    step: int, *, steps: int, peak: float, warmup: float, schedule: Literal["cosine", "linear", "constant"]
) -> float:
    """Return the rate of a step (from 0): a linear rise over `warmup` of the steps, then the schedule down to zero."""
    rising = math.ceil(steps * warmup)
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / max(steps - rising, 1)
    falls = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    return peak * falls[schedule]
