"""How a search chooses values, and what it judges trials by."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from luthier.core.spec import Spec

LOSS = "validation_loss"
COSTS = ("seconds", "adapter_bytes", "trainable_parameters")
"""Objectives beside quality; less is better."""


class Strategy(Spec):
    """How values are chosen, and what the trials are judged by."""

    type: Literal["random", "tpe", "grid", "cmaes"] = "tpe"
    """Draw at random, model the good region (TPE), try every combination, or adapt a normal distribution (CMA-ES)."""
    num_trials: int = Field(20, ge=1, le=100_000)
    """Trials beside the recipe's own values, which are always tried first; a grid has as many as it has points."""
    pruner: Literal["none", "median", "hyperband"] = "none"
    """When a training that falls behind is stopped: never, below the median of the others, or by Hyperband."""
    objectives: Annotated[tuple[str, ...], Field(min_length=1, max_length=4)] = (LOSS,)
    """`validation_loss` or a metric of the evaluation, and `seconds`, `adapter_bytes` or `trainable_parameters`."""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        repeated = [name for name in self.objectives if self.objectives.count(name) > 1]
        if repeated:
            raise ValueError(f"the objective `{repeated[0]}` stands there twice")
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError("a pruner needs one objective to prune by: leave out `pruner`, or all objectives but one")
        if len(self.objectives) > 1 and self.type == "cmaes":
            raise ValueError("`cmaes` follows one objective: take `tpe`, or all objectives but one")
        return self
