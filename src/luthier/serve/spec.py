"""What can be said about serving."""

from typing import Literal

from pydantic import Field

from luthier.core.spec import Spec


class ServeSpec(Spec):
    """How much a served model may take, and how long its line may be."""

    rows: int = Field(32, ge=1, le=1024)
    """Answers computed together at most; more wait in line."""
    queue: int = Field(256, ge=1)
    """Requests that may wait; the next one is refused with "come back later"."""
    adapter_bytes: int = Field(2_000_000_000, ge=1)
    """Memory for adapters; the least recently used ones leave it."""
    answer_bytes: int = Field(4_000_000_000, ge=1)
    """Memory for keys and values of the answers under way; those that do not fit beside the others wait."""
    prefix_bytes: int = Field(1_000_000_000, ge=0)
    """Memory for keys and values of prompts seen before, so that a repeated system prompt is computed once."""
    prefill_tokens: int = Field(128, ge=16)
    """Prompt tokens computed at once, so that a long prompt does not hold up the answers under way."""
    engine: Literal["transformers", "onnx", "llama.cpp"] | None = None
    """The engine that must run the models; null takes for each the one that reads its files."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the engine; null takes one per physical core."""
