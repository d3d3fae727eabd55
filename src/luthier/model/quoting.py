"""Quoting: the piece of a text that answers a question, from what a head says of each token, over all windows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.examples.store import Encoded
from luthier.model.headcard import HeadCard
from luthier.model.headstep import HeadStep, Logits, head_logits
from luthier.model.pairs import Pair, Window, windows_of


@dataclass(frozen=True)
class Found:
    """The best piece of one text, and how it compares with saying nothing."""

    start: int
    """Its first character."""
    end: int
    """The character after its last one."""
    lead: float
    """By how much the head would rather say nothing, in logits; below 0 it prefers the piece."""
    share: float
    """The piece's probability among all pieces of the text."""
    share_of_all: float
    """The same among all pieces and saying nothing."""

    def is_nothing(self, card: HeadCard) -> bool:
        """Tell whether the head says that the text does not say it."""
        return card.threshold is not None and self.lead > card.threshold

    def probability(self, card: HeadCard) -> float:
        """Return the probability of what is said."""
        if card.threshold is None:
            return self.share
        if self.is_nothing(card):
            # All that is not nothing is some piece.
            return 1.0 - self.share_of_all / self.share if self.share else 1.0
        return self.share_of_all


def card_windows(row: Encoded, card: HeadCard) -> list[Window]:
    """Return the windows in which a head reads a row."""
    return windows_of(row, limit=card.tokens, stride=card.stride, nothing=card.nothing)


def find_quotes(
    step: HeadStep, pairs: Sequence[Pair], *, progress: Callable[[int], None] = lambda rows: None
) -> list[Found]:
    """Return the best piece of each text: the one whose first and last token have the largest sum of logits."""
    card = step.card
    windows = [card_windows(pair.encoded(), card) for pair in pairs]
    flat = [window.row for of_row in windows for window in of_row]
    logits = iter(head_logits(step, flat, progress=progress))
    return [
        _best(pair, of_row, [next(logits) for _ in of_row], card) for pair, of_row in zip(pairs, windows, strict=True)
    ]


def _best(pair: Pair, windows: Sequence[Window], logits: Sequence[Logits], card: HeadCard) -> Found:
    scores = _scores(pair, windows, logits, card.longest)
    place = int(scores.argmax())
    first, more = divmod(place, scores.shape[1])
    best = float(scores[first, more])
    nothing = min(float(one[0 if card.nothing == "first" else -1].sum()) for one in logits)
    pieces = best + float(np.log(np.exp(scores - best).sum()))
    everything = float(np.logaddexp(pieces, nothing))
    return Found(
        start=pair.places[first][0],
        end=pair.places[first + more][1],
        lead=nothing - best,
        share=float(np.exp(best - pieces)),
        share_of_all=float(np.exp(best - everything)),
    )


def _scores(pair: Pair, windows: Sequence[Window], logits: Sequence[Logits], longest: int) -> Logits:
    """Return the score of each piece by its first token and how many follow, (N, L); the best over windows."""
    count = len(pair.places)
    scores = np.full((count, min(longest, count)), -np.inf)
    # Tokens without characters of their own neither begin nor end an answer.
    empty = np.array([end <= start for start, end in pair.places])
    for window, said in zip(windows, logits, strict=True):
        tokens = list(window.row.words)
        known = slice(window.skipped, window.skipped + len(tokens))
        starts, ends = (np.where(empty[known], -np.inf, said[tokens, side]) for side in (0, 1))
        for more in range(min(scores.shape[1], len(tokens))):
            reached = starts[: len(tokens) - more] + ends[more:]
            column = scores[window.skipped : window.skipped + len(reached), more]
            np.maximum(column, reached, out=column)
    return scores
