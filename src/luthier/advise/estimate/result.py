"""The estimate of a plan: memory, time, disk and cost, each number with where it comes from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Source = Literal["measured", "computed", "published"]
"""From steps done here, from arithmetic on the plan, or from a manufacturer's figures."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Because(_Frozen):
    """Where one number comes from."""

    source: Source
    text: str


class Change(_Frozen):
    """A line to change in the recipe, and what it does."""

    path: str
    """Dotted path of the field: `train.micro_batch_tokens`."""
    value: int | bool | str
    because: str

    @property
    def line(self) -> str:
        """The change as `--set` takes it."""
        value = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.path}={value}"


class Cost(_Frozen):
    """What the run costs, in the currency of the price."""

    amount: float
    because: Because


class GpuEstimate(_Frozen):
    """The same plan on a GPU that is not here: not measured, from published figures."""

    name: str
    peak_memory_bytes: int
    memory_bytes: int
    fits: bool
    total_seconds: float
    cost: Cost | None = None
    because: Because
    measured: Literal[False] = False


class PlanEstimate(_Frozen):
    """What a plan takes on this machine, and on others."""

    machine: str
    """What was measured on."""
    peak_memory_bytes: int
    """Of the one process that runs the plan."""
    memory: dict[str, int]
    """The highest of each part: training, evaluation, export."""
    available_memory_bytes: int
    fits: bool
    """Whether memory and disk suffice here."""
    prepare_seconds: float
    """Starting, settling the plan, and tokenising."""
    train_seconds: float
    """Loading, steps and checkpoints, without the validation."""
    validate_seconds: float
    evaluate_seconds: float
    export_seconds: float
    total_seconds: float
    disk_bytes: int
    """The finished run folder."""
    disk: dict[str, int]
    """Its parts: data, checkpoints, weights, exports."""
    free_disk_bytes: int
    because: dict[str, Because]
    """By the name of the number."""
    cost: Cost | None = None
    changes: tuple[Change, ...] = ()
    """What would make it fit, in the order in which to try."""
    elsewhere: tuple[GpuEstimate, ...] = ()
