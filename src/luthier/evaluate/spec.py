"""What a recipe says about evaluation."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from luthier.core.artifacts import HEAD_KINDS, VECTOR_KINDS, AnswerKind
from luthier.core.spec import Auto, Spec
from luthier.score.names import MetricName

BaselineName = Literal[
    "zero-shot",
    "few-shot",
    "majority",
    "linear-head",
    "nearest",
    "nearest-sentence",
    "untuned",
    "tf-idf",
    "lead",
    "copy",
]
PROMPTED: tuple[BaselineName, ...] = ("zero-shot", "few-shot")
"""Baselines of models that write."""
READ_OFF: tuple[BaselineName, ...] = ("lead", "copy")
"""Baselines of texts made from texts, which ask no model: the source's first sentences, and the source itself."""
FROM_SOURCE: tuple[BaselineName, ...] = ("zero-shot", *READ_OFF)
"""Baselines of encoder-decoders, which are shown no examples."""
FROZEN: tuple[BaselineName, ...] = ("majority", "linear-head", "nearest")
"""Baselines of heads: the usual answer, and the untuned model's vectors with a linear head or the nearest texts."""

QUOTED: tuple[BaselineName, ...] = ("majority", "nearest-sentence", "untuned")
"""Baselines of heads that point at answers: the usual answer, the sentence most like the question, and the base."""
VECTORS: tuple[BaselineName, ...] = ("tf-idf", "untuned")
"""Baselines of vectors: the texts' shared words, and the untuned model's vectors."""


class UserMetric(Spec):
    """A metric of your own: the mean over rows of what your code says of each; more is better."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,39}$")]
    """What reports call it."""
    python: str | None = None
    """A Python file with `def score(prompt, answer, reference, row) -> float`."""
    command: str | None = None
    """A shell command that reads one JSON line per row and writes one number per line."""
    timeout_s: float = Field(60.0, gt=0)
    """Seconds to wait for the next number before it is an error."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.python) == bool(self.command):
            raise ValueError("a metric of your own has either `python` or `command`")
        return self


class EvaluateSpec(Spec):
    """Which systems answer the test split and how they are scored."""

    baselines: Auto | tuple[BaselineName, ...] = "auto"
    """What the tuned model is measured against, on the base model; `auto` chooses by the method."""
    metrics: Auto | tuple[MetricName, ...] = "auto"
    """`auto` chooses by the kind of answer; perplexity is always measured."""
    user_metrics: tuple[UserMetric, ...] = ()
    """Metrics of your own, measured and tested like the others."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-eval, by name or as task files (`.yaml`), for the untuned and the tuned model."""
    shots: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Examples in the few-shot prompt; `auto` takes two per label (at least four), as the context allows."""
    max_rows: int = Field(500, ge=1)
    """Test rows answered at most, and rows of each task of lm-eval; they are drawn by the seed."""
    max_new_tokens: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Longest answer; `auto` takes the longest training answer and a margin."""
    resamples: int = Field(2000, ge=200, le=100_000)
    """Bootstrap resamples behind each interval."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [metric.name for metric in self.user_metrics]
        taken = next((name for name in names if name in get_args(MetricName) or names.count(name) > 1), None)
        if taken:
            raise ValueError(f"there is another metric called `{taken}`")
        return self


def baselines_for(kind: AnswerKind, *, seq2seq: bool = False) -> tuple[BaselineName, ...]:
    """Return the baselines that suit a kind of answer, written by a causal model or by an encoder-decoder."""
    if seq2seq:
        return FROM_SOURCE if kind == "free" else FROM_SOURCE[:1]
    if kind == "quote":
        return QUOTED
    if kind in VECTOR_KINDS:
        return VECTORS
    if kind == "spans":
        return FROZEN[:2]
    return FROZEN if kind in HEAD_KINDS else PROMPTED
