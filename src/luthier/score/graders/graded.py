"""What a grader is given and what it gives back, in the hosted service's own words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from luthier.core.errors import LuthierError
from luthier.score.graders.sandbox import Verdict

Flag = Literal[
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
]


class GradingError(LuthierError):
    """A grader has no reward to give; `flag` is the documented name of the reason."""

    code = "grading_failed"
    exit_status = 3

    def __init__(self, flag: Flag, what: str, *, details: str | None = None) -> None:
        super().__init__(what)
        self.flag: Flag = flag
        self.details = details


class GradeErrors(BaseModel):
    """What went wrong while grading; all false where nothing did."""

    model_config = ConfigDict(frozen=True)

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None

    @property
    def any(self) -> bool:
        """Whether there is no honest reward; a text that was only cut still has one."""
        return any(value is True for name, value in self if name != "truncated_observation_error")

    def __or__(self, other: "GradeErrors") -> "GradeErrors":
        """Return what went wrong in either."""
        return GradeErrors(**{name: value or getattr(other, name) for name, value in self})


class GradeMetadata(BaseModel):
    """How a reward came about."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    errors: GradeErrors
    execution_time: float
    """Seconds."""
    scores: dict[str, float]
    token_usage: int | None
    """Tokens of all models that graded, read and written; None where none did."""
    sampled_model_name: str | None
    """The model that really graded."""


class Graded(BaseModel):
    """A reward and how it came about."""

    model_config = ConfigDict(frozen=True)

    reward: float
    """0 where something went wrong."""
    metadata: GradeMetadata
    sub_rewards: dict[str, float]
    """Of the graders that a multi grader combines."""
    model_grader_token_usage_per_model: dict[str, int]


@dataclass(frozen=True)
class Question:
    """What a model is asked."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    """Chat messages, each with `role` and `content`."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Options of a chat request: temperature, top_p, seed, max_completion_tokens, response_format, tools."""


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    model: str
    """The model that really answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str = "stop"
    message: Mapping[str, Any] | None = None
    """The whole message, where it is more than text (tool calls)."""


@dataclass(frozen=True)
class Found:
    """A grader's reward before it is told how it came about."""

    score: float
    reply: Reply | None = None
    """Of the model that graded."""
    is_cut: bool = False
    """Whether a text was too long and only its beginning counted."""


class Help(Protocol):
    """What graders need from the house around them."""

    def ask(self, question: Question) -> Reply:
        """Return a served model's answer; raises LuthierError."""
        ...

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector per text; raises LuthierError."""
        ...

    def run(self, source: str, sample: Mapping[str, Any], item: Mapping[str, Any]) -> Verdict:
        """Return what foreign Python says, behind walls; raises IsolationError."""
        ...
