"""One request on its way through the engine."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from luthier.core.errors import LuthierError
from luthier.serve.constrain import Follower, Grammars
from luthier.serve.pool import Prompt
from luthier.serve.request import Ask, Chance, Finish, Heard, Piece, Spoken
from luthier.serve.sampling import Chooser, likeliest
from luthier.serve.text import Speaker


@dataclass(eq=False)
class Row:
    """One request: waiting, being read, or answering."""

    ask: Ask
    heard: Heard
    limit: int
    """Tokens of the answer at most."""
    speaker: Speaker
    chooser: Chooser
    asked_at: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    prompt: Prompt | None = None
    """Set while the prompt is computed."""
    follower: Follower | None = None
    next_token: int = 0
    """What the next step computes."""
    said: int = 0
    cached: int = 0
    _spoken: list[Spoken] = field(default_factory=list)
    _counted: int = 0

    @property
    def adapter(self) -> Path | None:
        """Whose answer it is."""
        return self.ask.adapter

    @property
    def ids(self) -> tuple[int, ...]:
        """What is to be computed before the next token is chosen: the prompt, and what was said."""
        return (*self.ask.ids, *self.speaker.ids)

    def cancel(self) -> None:
        """Nobody listens any more."""
        self.cancelled = True

    def tell(self, said: Piece | LuthierError) -> None:
        """Say something; whoever cannot hear it is not told again."""
        try:
            self.heard(said)
        except Exception:  # noqa: BLE001 (a listener's trouble must not end the engine's thread)
            self.cancelled = True

    def next(self, logits_V: torch.Tensor, grammars: Grammars, stop_ids: frozenset[int]) -> Finish | None:
        """Choose the next token, say what is certain, and return why the answer ends, if it does."""
        allowed = self._allowed(logits_V, stop_ids)
        token = self.chooser.choose(logits_V, allowed)
        return self.take(token, logits_V, grammars, stop_ids)

    def take(self, token: int, logits_V: torch.Tensor, grammars: Grammars, stop_ids: frozenset[int]) -> Finish | None:
        """Go on with a token that is chosen."""
        self.said += 1
        self.next_token = token
        if token in stop_ids:
            return self._end("stop")
        if self.follower is not None and not self.follower.is_done:
            self.follower.take(token)
        if self.ask.sampling.logprobs is not None:
            self._spoken.append(_spoken(self, token, logits_V, grammars))
        text = self.speaker.add(token)
        if self.speaker.stopped:
            return self._end("stop", text)
        done = self.follower is not None and self.follower.is_done
        if done or self.said >= self.limit:
            return self._end("stop" if done else "length", text)
        if text:
            self._say(text, None)
        return None

    def _allowed(self, logits_V: torch.Tensor, stop_ids: frozenset[int]) -> torch.Tensor | None:
        if self.follower is None:
            return None
        allowed = self.follower.allowed()
        # The library knows one token that ends an answer, models often have several.
        if any(allowed[token] for token in stop_ids):
            allowed[list(stop_ids)] = True
        return allowed

    def _end(self, finish: Finish, text: str = "") -> Finish:
        self._say(text + self.speaker.rest(), finish)
        return finish

    def _say(self, text: str, finish: Finish | None) -> None:
        first = self._counted == 0
        tokens, self._spoken = tuple(self._spoken), []
        piece = Piece(text, tokens, self.said - self._counted, self.cached if first else 0, finish)
        self._counted = self.said
        self.tell(piece)


def _spoken(row: Row, token: int, logits_V: torch.Tensor, grammars: Grammars) -> Spoken:
    chosen, others = likeliest(logits_V, token, row.ask.sampling.logprobs or 0)

    def chance(token: int, logprob: float) -> Chance:
        return Chance(token, row.speaker.tokenizer.decode([token]), grammars.utf8(token), logprob)

    return Spoken(chance(token, chosen), tuple(chance(*other) for other in others))
