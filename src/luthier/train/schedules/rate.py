"""The learning rate of a step."""

import math

from pydantic import BaseModel, ConfigDict

from luthier.train.schedules.spec import Plateau, Schedule


class Watched(BaseModel):
    """What a plateau schedule remembers; part of a checkpoint."""

    model_config = ConfigDict(extra="forbid")

    share: float = 1.0
    """Share of the peak rate."""
    best_loss: float | None = None
    waited: int = 0
    """Validations in a row without improvement, since the last fall."""

    def see(self, loss: float, schedule: Plateau) -> None:
        """Take note of a validation, and let the rate fall where the loss no longer does."""
        if self.best_loss is None or loss < self.best_loss - schedule.min_delta:
            self.best_loss, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= schedule.patience:
            self.share, self.waited = max(schedule.lowest, self.share * schedule.factor), 0


def learning_rate(step: int, *, steps: int, peak: float, warmup: float, schedule: Schedule) -> float:
    """Return the rate of a step (from 0): a linear rise over `warmup` of the steps, then the schedule."""
    rising = math.ceil(steps * warmup)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * schedule.share((step - rising) / max(steps - rising, 1))
