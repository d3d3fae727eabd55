"""What a recipe says about evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from luthier.core.spec import Auto, Spec
from luthier.score.names import MetricName

BaselineName = Literal["zero-shot", "few-shot"]


class EvaluateSpec(Spec):
    """Which systems answer the test split and how they are scored."""

    baselines: tuple[BaselineName, ...] = ("zero-shot", "few-shot")
    """What the tuned model is measured against, on the base model."""
    metrics: Auto | tuple[MetricName, ...] = "auto"
    """`auto` chooses by the kind of answer; perplexity is always measured."""
    shots: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Examples in the few-shot prompt; `auto` takes two per label (at least four), as the context allows."""
    max_rows: int = Field(500, ge=1)
    """Test rows answered at most; they are drawn by the seed."""
    max_new_tokens: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Longest answer; `auto` takes the longest training answer and a margin."""
    resamples: int = Field(2000, ge=200, le=100_000)
    """Bootstrap resamples behind each interval."""
