"""What a plan will do, counted: steps, micro-batches and their shapes, validations, checkpoints, questions."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Size(_Frozen):
    """The size of a model, as far as arithmetic needs it."""

    layers: int
    hidden: int
    layer_parameters: int
    """Weights of the linear layers, which every token meets."""
    head_parameters: int
    """Weights of the LM head, which only targets meet."""
    parameters: int
    trainable: int


class Shape(_Frozen):
    """One micro-batch as it is computed."""

    tokens: int
    """Positions computed: shared beginnings once in the fast step, pads included in the plain one."""
    targets: int
    """Positions whose logits are computed."""
    pairs: int
    """Query and key pairs whose attention is computed."""

    def load(self, size: Size) -> float:
        """Return the work in tokens: what head and attention cost is counted in passes of one token."""
        head = self.targets * size.head_parameters
        attention = 2 * self.pairs * size.hidden * size.layers
        return self.tokens + (head + attention) / max(1, size.layer_parameters)


class Work(_Frozen):
    """Everything a plan will do, as counts."""

    method: Literal["sft", "dpo"]
    full: bool
    """Whether the model's own weights train."""
    ranked: bool = True
    """Whether the adapter has a rank, which could be smaller."""
    recomputes: bool
    """Whether activations are computed again in the backward pass."""
    offloads: bool = False
    """Whether activations wait in the CPU's memory."""
    state_bytes: float = 12
    """Gradient, optimiser and moving average, per trained weight."""
    precision: Literal["fp32", "bf16", "fp16"]
    micro_batch_tokens: int
    longest_tokens: int
    steps: int
    sampled_steps: int
    """Steps whose micro-batches were cut and counted; the others are taken to be like them."""
    sampled_rows: int
    micro_batches: tuple[Shape, ...]
    """Those of the sampled steps."""
    referenced_rows: int
    """Rows priced once by the untuned model before the first step."""
    validations: int
    watched: tuple[Shape, ...]
    """The micro-batches of one validation."""
    checkpoints: int
    kept_checkpoints: int
    snapshots: int
    """How many times weights are kept as a model of their own."""
    kept_snapshots: int
    test_rows: int
    """Held-out rows that are put to each system; 0 where nothing is evaluated."""
    systems: int
    rows_per_batch: int
    """Questions answered together."""
    prompt_tokens: int
    """Mean tokens of a question."""
    answer_tokens: int
    """Tokens of the longest right answer."""
    most_new_tokens: int
    """Where an answer is cut."""
    exports: tuple[str, ...]
    data_bytes: int
    trainings: int = 1
    """How often it trains, each time with another seed; each tuned model is one of the systems."""

    @property
    def heaviest(self) -> Shape:
        """The micro-batch that needs most memory."""
        return max(self.micro_batches, key=lambda shape: (shape.tokens, shape.targets))

    @property
    def stretch(self) -> float:
        """By how much the whole run is longer than its sampled steps."""
        return self.steps / self.sampled_steps
