"""What advice is drawn from: plain numbers about the data, the model and the machine."""

from dataclasses import dataclass
from typing import Literal

from luthier.core.artifacts import AnswerKind


@dataclass(frozen=True)
class DataFacts:
    """What a look at the rows found; counts are of the rows that can be used."""

    rows: int
    """Rows to train on, after the held-out shares."""
    has_validation: bool
    format: str
    answer_kind: AnswerKind
    labels: int
    """Distinct answers of a closed set; 0 where answers are open."""
    mean_tokens: float
    """Tokens of a row, prompt and answer; of a pair both answers."""
    longest_tokens: int
    """Tokens of the longest row, of a pair with one answer."""
    longest_answer_tokens: int
    complete: bool
    """Whether all rows were looked at, or only the first ones."""


@dataclass(frozen=True)
class ModelFacts:
    """What a base model's config says about it."""

    parameters: int
    context_tokens: int
    linear_layers: tuple[str, ...]
    """Names of the linear layers but the LM head, each once, sorted."""
    layers: int
    hidden: int
    activation_bytes_per_token: float
    """What autograd keeps for one token of a training step, without recomputation."""
    pools_mean: bool = False
    """Whether its vectors were trained as the mean over tokens."""


@dataclass(frozen=True)
class MachineFacts:
    """What this machine has."""

    cores: int
    available_bytes: int
    accelerator: str | None
    fast_dtype: Literal["fp32", "bf16", "fp16"]
    fast_dtype_because: str
    has_compiler: bool
    """Whether a C++ compiler is found."""


@dataclass(frozen=True)
class Facts:
    """Everything a rule may look at, beside the recipe itself."""

    data: DataFacts
    model: ModelFacts
    machine: MachineFacts
