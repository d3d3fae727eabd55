"""What an engine is asked and what it says back; every engine speaks these words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from luthier.core.errors import LuthierError

if TYPE_CHECKING:
    import numpy as np

Finish = Literal["stop", "length", "cancelled"]
"""Why an answer ended: by itself or at a stop text, at its limit or the context's end, or because nobody listens."""


@dataclass(frozen=True)
class Sampling:
    """How the next tokens are chosen."""

    max_tokens: int
    """Tokens of the answer at most; above 0."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Share of probability mass kept, above 0 and up to 1."""
    seed: int | None = None
    """The same seed, prompt and adapter give the same answer, whatever else is in the batch."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not part of it."""
    logprobs: int | None = None
    """Alternatives to report beside each chosen token (0 to 20); None reports no log-probabilities."""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    """Added to the logits of token ids."""
    grammar: str | None = None
    """A grammar of the constraint library, already compiled to its text form; None leaves the answer free."""


@dataclass(frozen=True)
class Ask:
    """One prompt for one answer."""

    ids: tuple[int, ...]
    """Prompt tokens, at least one, fewer than the context."""
    sampling: Sampling
    adapter: Path | None = None
    """Folder of the adapter's weights in PEFT's format; None is the base model."""
    owner: str = ""
    """Who asks: what is remembered of one owner's prompts is never used, or told, for another's."""


@dataclass(frozen=True)
class Chance:
    """A token and its natural-log probability."""

    id: int
    text: str
    """The token's own text; a piece of a character is the replacement character."""
    utf8: bytes
    logprob: float


@dataclass(frozen=True)
class Spoken:
    """One token of an answer."""

    chosen: Chance
    alternatives: tuple[Chance, ...] = ()


@dataclass(frozen=True)
class Piece:
    """What an engine says next: whole characters, never part of a stop text."""

    text: str
    tokens: tuple[Spoken, ...] = ()
    """The tokens behind the text, only where log-probabilities were asked for."""
    new_tokens: int = 0
    """Tokens computed for this piece, the one that ended the answer included."""
    cached_tokens: int = 0
    """Prompt tokens taken from the prefix cache; told with the first piece only."""
    finish: Finish | None = None
    """Set on the last piece and on no other."""


def answer_limit(ask: Ask, context: float) -> int:
    """Return how many tokens an answer may have; ValueError for a prompt that is empty or fills the context."""
    limit = int(min(ask.sampling.max_tokens, context - len(ask.ids)))
    if not ask.ids or limit < 1:
        raise ValueError("a prompt has at least one token and fewer than the context holds")
    return limit


Heard = Callable[[Piece | LuthierError], None]
"""Called from the engine's thread, in order; an error is the last thing said. It must return at once."""


class Ticket(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Nobody listens any more: the row leaves the batch at the next step."""
        ...


@dataclass(frozen=True)
class EngineStats:
    """An engine's state and counters since it began."""

    running: int
    waiting: int
    prompt_tokens: int
    cached_prompt_tokens: int
    answer_tokens: int
    adapters: int
    """Adapters in memory."""
    adapter_bytes: int
    steps: int


class QueueFullError(LuthierError):
    """More requests wait than are allowed; `retry_after_s` says when to come back."""

    code = "queue_full"
    exit_status = 6
    usual_hint = "wait and ask again"
    retry_after_s: int = 1


class EngineError(LuthierError):
    """The engine could not do what was asked."""

    code = "engine_failed"
    usual_hint = "ask again; if it happens again, please report it"


class Engine(Protocol):
    """Prompts to tokens, for one base model and many adapters; all of it runs on one thread of its own.

    Besides answering, an engine says what it makes of a conversation and how likely it finds each next token: that is
    what a parity certificate compares with the tuned model.
    """

    context: float
    """Tokens of prompt and answer together at most."""
    stop_ids: frozenset[int]
    """The tokens that end an answer, as the model's files tell this engine."""

    def submit(self, ask: Ask, heard: Heard) -> Ticket:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        ...

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None = None) -> list[list[float]]:
        """Return one mean-pooled, unit-length vector per prompt; waits for its turn on the engine's thread."""
        ...

    def render(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return a conversation that the assistant is to continue as text, by the engine's own copy of the template."""
        ...

    def encode(self, rendered: str) -> list[int]:
        """Return the ids that the engine makes of a rendered prompt, with whatever it puts before it by itself."""
        ...

    def chances(
        self, prompt: Sequence[int], answer: Sequence[int], adapter: Path | None = None
    ) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Return natural-log next-token probabilities after the prompt and after each token of a given answer.

        Shape (len(answer) + 1, vocabulary), computed token by token as in an answer; NaN where the engine does not say.
        Waits for its turn; raise EngineError where it cannot.
        """
        ...

    def unload(self, adapter: Path) -> None:
        """Forget an adapter; requests under way with it end first."""
        ...

    def stats(self) -> EngineStats:
        """Return the present state; cheap, from any thread."""
        ...

    def close(self) -> None:
        """End the thread; requests under way are told."""
        ...
