"""From logits to a token: greedy or drawn, with the penalties and the log-probabilities that were asked for."""

from collections import Counter
from dataclasses import dataclass, field

import torch

from luthier.serve.request import Sampling

COLDEST = 1e-5
"""Lower temperatures draw the likeliest token as surely, and would make infinities of logits."""
USUAL = (256, 4096)
"""Tokens among which `top_p` most often lies; only where it does not are all of them sorted."""


@dataclass
class Chooser:
    """Chooses one row's tokens; its draws depend on its own seed and on nothing else in the batch."""

    sampling: Sampling
    said: Counter[int] = field(default_factory=Counter)
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        """Seed the draws."""
        if self.sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(self.sampling.seed)

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token is taken, whatever it is."""
        asked = self.sampling
        changes = asked.logit_bias or asked.frequency_penalty or asked.presence_penalty or asked.grammar
        return not asked.temperature and not changes and asked.logprobs is None

    def choose(self, logits_V: torch.Tensor, allowed_V: torch.Tensor | None = None) -> int:
        """Return the next token; `allowed` says which tokens a grammar lets pass."""
        logits = self._changed(logits_V)
        if allowed_V is not None:
            logits = logits.masked_fill(~allowed_V, float("-inf"))
        token = self._drawn(logits) if self.sampling.temperature else int(logits.argmax())
        self.said[token] += 1
        return token

    def _changed(self, logits_V: torch.Tensor) -> torch.Tensor:
        asked = self.sampling
        if not (asked.logit_bias or asked.frequency_penalty or asked.presence_penalty):
            return logits_V
        logits = logits_V.clone()
        for token, bias in asked.logit_bias.items():
            if 0 <= token < len(logits):
                logits[token] += bias
        for token, count in self.said.items():
            logits[token] -= asked.presence_penalty + asked.frequency_penalty * count
        return logits

    def _drawn(self, logits_V: torch.Tensor) -> int:
        """Draw from the smallest set of tokens that has `top_p` of the probability (Holtzman et al. 2019)."""
        chances = (logits_V / max(self.sampling.temperature, COLDEST)).softmax(dim=-1)
        if self.sampling.top_p >= 1:
            return self._place(chances)
        ordered, tokens = _nucleus(chances, self.sampling.top_p)
        return int(tokens[self._place(ordered)])

    def _place(self, chances: torch.Tensor) -> int:
        """Draw a place; a twentieth of the time of `torch.multinomial`, which looks at every one."""
        sums = chances.double().cumsum(dim=-1)
        point = torch.rand(1, dtype=torch.float64, generator=self.generator) * sums[-1]
        return min(int(torch.searchsorted(sums, point, right=True)), len(sums) - 1)


def _nucleus(chances_V: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the likeliest tokens that together have `top_p`, and 0 for those beside them; and which they are."""
    for count in (*USUAL, len(chances_V)):
        ordered, tokens = chances_V.topk(min(count, len(chances_V)))
        before = ordered.cumsum(dim=-1) - ordered
        if before[-1] >= top_p:
            break
    ordered[1:][before[1:] >= top_p] = 0
    return ordered, tokens


def likeliest(logits_V: torch.Tensor, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Return the token's log-probability, and the `count` likeliest tokens with theirs."""
    logprobs = torch.log_softmax(logits_V, dim=-1)
    values, tokens = logprobs.topk(count) if count else (logprobs[:0], torch.empty(0, dtype=torch.long))
    return float(logprobs[token]), list(zip(tokens.tolist(), values.tolist(), strict=True))
