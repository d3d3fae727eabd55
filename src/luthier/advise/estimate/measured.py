"""What the calibration measured, as plain numbers."""

from pydantic import BaseModel, ConfigDict

from luthier.advise.estimate.work import Size


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Steps(Size):
    """Training: micro-batches timed in the order in which they were asked for."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    fast: bool
    shares: bool
    start_seconds: float
    backward_seconds: tuple[float, ...]
    """Of the micro-batches from the second on; the first one warms up."""
    memory_bytes: tuple[int, ...]
    """Memory after each micro-batch."""
    forward_seconds: tuple[float, ...]
    """Of the heaviest micro-batch of the validation, or the first one; then of the second and third."""
    update_seconds: float
    checkpoint_seconds: float
    checkpoint_bytes: int
    weights_seconds: float
    weights_bytes: int
    activation_bytes_per_token: float


class Task(_Frozen):
    """One kind of question put to one system."""

    system: str
    name: str
    """`answers`, `labels` or `likelihoods`."""
    seconds: float


class Sample(_Frozen):
    """An evaluation of a few rows, with everything a whole one does."""

    rows: int
    seconds: float
    tasks: tuple[Task, ...]
    runs_on: bool
    """Whether an answer of the tuned model was cut; a model that has learnt to stop answers sooner."""


class Export(_Frozen):
    """A whole export."""

    seconds: float
    bytes: int


class Measured(_Frozen):
    """Everything measured in the child process; bytes are the highest of each part."""

    import_seconds: float
    """From the start of Python until every room is loaded."""
    start_bytes: int
    """Memory of the process before any model is in it."""
    train_bytes: int
    evaluate_bytes: int
    export_bytes: int
    steps: Steps
    samples: tuple[Sample, ...] = ()
    """Evaluations of a few rows, the smaller first."""
    export: Export | None = None
