"""Evidence: what was measured in a run, as plain numbers; None stands for what is not known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from luthier.core.artifacts import AnswerKind

Series = tuple[tuple[int, float], ...]
"""(step, value), by rising step."""


@dataclass(frozen=True)
class Settings:
    """What the plan says, as far as a remedy changes it."""

    learning_rate: float
    usual_rate: float
    """What the rules of advice take for a model of this size."""
    warmup: float
    max_grad_norm: float
    batch_size: int
    epochs: float | None
    steps: int | None
    rank: int | None
    """Of the adapter; None where all weights train."""
    keep_best: bool
    micro_batch_tokens: int
    gradient_checkpointing: bool


@dataclass(frozen=True)
class Curve:
    """What training measured, step by step."""

    planned: int
    """Updates that the run was to make."""
    loss: Series
    """Of each batch, in nats per target token, or per pair."""
    validation: Series
    """Of the watched validation rows; step 0 is the untuned model."""
    grad_norm: Series
    """Before clipping."""
    wait_share: float | None = None
    """Share of the time in which training waited for its rows."""
    waited_s: float = 0.0
    """Seconds of it in all."""
    memory_share: float | None = None
    """Largest share of the device's memory in use, by the median of the steps' last tenth."""
    broken: str | None = None
    """What the run said about a step that was not finite."""
    out_of_memory: str | None = None
    """What the run said about a step that did not fit into memory."""
    rows_of: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Which rows the steps that stand out trained, by step."""

    @property
    def done(self) -> int:
        """Updates made so far."""
        return self.loss[-1][0] if self.loss else 0

    @property
    def ended(self) -> bool:
        """Whether the last planned update was made."""
        return self.done >= self.planned > 0


@dataclass(frozen=True)
class Data:
    """What the data card says."""

    rows: int
    """Rows seen."""
    kind: AnswerKind
    limit: int
    """The most tokens a row could have."""
    context: int
    """The most tokens the model takes."""
    longest: int
    """Tokens of the longest row before any was cut or left out, at most so many."""
    cut: tuple[str, ...]
    too_long: tuple[str, ...]
    """Rows left out because they were too long."""
    no_target: tuple[str, ...]
    """Rows left out because nothing in them is trained."""
    only_last: int
    """Conversations of which only the last answer is trained."""
    target_tokens: int
    total_tokens: int
    conflicts: tuple[tuple[str, ...], ...]
    """Groups of rows with the same prompt and different answers."""
    conflict_groups: int
    """How many such groups there are in all."""


@dataclass(frozen=True)
class Overlap:
    """A held-out row that says the same as a training row."""

    held_out: str
    trained: str


@dataclass(frozen=True)
class Splits:
    """The rows of the splits, compared with each other."""

    held_out: int
    overlaps: tuple[Overlap, ...]
    ends_share: float
    """Share of training rows whose last token is a trained end of turn."""


@dataclass(frozen=True)
class Judged:
    """A held-out row whose label the tuned model has judged."""

    row: str
    label: str
    probabilities: Mapping[str, float]
    """Of each label of the closed set; they sum to 1."""


@dataclass(frozen=True)
class Rendered:
    """Rows rendered again somewhere else than in the data room."""

    place: str
    """Where: the base model, an export, the evaluation."""
    rows: int
    different: int
    example: str = ""
    """Row, and the text where the first difference begins, both ways."""


@dataclass(frozen=True)
class Answered:
    """How the tuned model's answers ended."""

    rows: int
    stops_share: float
    limit: int
    """The most tokens an answer could have."""


@dataclass(frozen=True)
class Weights:
    """The trained tensors."""

    place: str
    """Which weights were looked at: the final ones, or a checkpoint's."""
    tensors: int
    still: tuple[str, ...]
    """Tensors that never got a gradient, or are zero after training."""
    not_finite: tuple[str, ...]


@dataclass(frozen=True)
class BaseMatch:
    """Whether the base model is the one that was tuned."""

    name: str
    trained_on: str
    """SHA-256 of the weights at training."""
    now: str
    """SHA-256 of the weights in the folder now."""
    adapter_base: str | None
    """Which base the adapter's own config names; None where all weights were trained."""


@dataclass(frozen=True)
class Evidence:
    """All that a rule may look at; `missing` says of each part that is None why it is."""

    settings: Settings | None = None
    curve: Curve | None = None
    data: Data | None = None
    splits: Splits | None = None
    judged: tuple[Judged, ...] | None = None
    rendered: tuple[Rendered, ...] | None = None
    answered: Answered | None = None
    weights: Weights | None = None
    base: BaseMatch | None = None
    missing: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
