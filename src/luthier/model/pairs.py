"""Pairs: a question and a text as one row of tokens, and the windows that a long one is cut into."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from luthier.core.errors import DataError
from luthier.examples.example import Quote
from luthier.examples.spans import Place
from luthier.examples.store import Encoded

BREAK = "\n"
"""What stands between question and text, and after it, where a tokenizer has no signs of its own for that."""


@dataclass(frozen=True)
class Pair:
    """A question and a text as a model reads them: the question, the text's tokens, and what ends the row."""

    ids: list[int]
    first: int
    """Where the text's first token stands."""
    places: list[Place]
    """Which characters of the text each of its tokens stands for; nothing where the end is not after the start."""
    nothing: int
    """The token that stands for "the text does not say it": the first one, or the last one of causal models."""
    segments: bool
    """Whether the tokenizer counts the text as a second segment."""

    @property
    def tokens(self) -> range:
        """Where the text's tokens stand."""
        return range(self.first, self.first + len(self.places))

    def encoded(self, quotes: Sequence[Quote] | None = None) -> Encoded:
        """Return the row; its targets are the first answer's tokens, or the one that stands for nothing."""
        targets = [False] * len(self.ids)
        if quotes:
            start, end = quotes[0].start, quotes[0].end
            for token, place in zip(self.tokens, self.places, strict=True):
                targets[token] = max(place[0], start) < min(place[1], end)
        elif quotes is not None:
            targets[self.nothing] = True
        closing = len(self.ids) - self.first - len(self.places)
        return Encoded(self.ids, targets, self.first, words=tuple(self.tokens), closing=closing)


def read_pair(tokenizer: PreTrainedTokenizerBase, question: str, text: str) -> Pair:
    """Return a question and a text as one row, with the tokenizer's own special tokens."""
    try:
        f"{question}{text}".encode()
    except UnicodeEncodeError as error:
        raise DataError("the text holds half of a character (a lone surrogate)", why=str(error)) from error
    pair = _as_encoder(tokenizer, question, text) if tokenizer.cls_token_id is not None else None
    pair = pair or _as_causal(tokenizer, question, text)
    if not pair.places:
        raise DataError("the text has no token")
    return pair


def _as_encoder(tokenizer: PreTrainedTokenizerBase, question: str, text: str) -> Pair | None:
    """Return the pair as the tokenizer makes it; None where it does not begin with the token for a whole text."""
    read = tokenizer(question, text, return_offsets_mapping=True, return_token_type_ids=True, verbose=False)
    ids, parts = list(read["input_ids"]), read.sequence_ids(0)
    if not ids or ids[0] != tokenizer.cls_token_id:
        return None
    tokens = [place for place, part in enumerate(parts) if part == 1]
    first, last = (tokens[0], tokens[-1] + 1) if tokens else (len(ids), len(ids))
    second = any(read["token_type_ids"][first:last])
    return Pair(ids, first, _places(read["offset_mapping"][first:last], text), nothing=0, segments=second)


def _as_causal(tokenizer: PreTrainedTokenizerBase, question: str, text: str) -> Pair:
    """Return question, line break, text, line break; the last token has read all of it."""
    asked = tokenizer(question + BREAK, return_special_tokens_mask=True, verbose=False)
    ids, special = list(asked["input_ids"]), list(asked["special_tokens_mask"])
    while special and special[-1]:
        ids.pop()
        special.pop()
    read = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    end = tokenizer(BREAK, add_special_tokens=False, verbose=False)["input_ids"]
    whole = [*ids, *read["input_ids"], *end]
    return Pair(whole, len(ids), _places(read["offset_mapping"], text), nothing=len(whole) - 1, segments=False)


def _places(offsets: Sequence[Place], text: str) -> list[Place]:
    """Return the places without the white space that some tokenizers count with the word after it."""
    return [(end - len(text[start:end].lstrip()), start + len(text[start:end].rstrip())) for start, end in offsets]


@dataclass(frozen=True)
class Window:
    """A piece of a row that a model can read: the whole question, and a stretch of the text."""

    row: Encoded
    """Its `words` are where the stretch's tokens stand; its truth is the answer's first and last token."""
    skipped: int
    """How many of the text's tokens precede it."""
    answered: bool
    """Whether it holds the row's answer whole; elsewhere its truth is the token that stands for nothing."""


def windows_of(row: Encoded, *, limit: int, stride: int, nothing: Literal["first", "last"]) -> list[Window]:
    """Return a row's windows of at most `limit` tokens; each shares `stride` of the text's tokens with the one before.

    Where the question leaves little room, half of it is shared at most. `nothing` tells which token stands for that.
    """
    first, count = row.prompt_tokens, len(row.words)
    room = limit - (len(row.ids) - count)
    if count <= room:
        return [_window(row, 0, count, nothing)]
    if room < 1:
        raise DataError("the question leaves no room for the text", why=f"it has {first:,} tokens of {limit:,}")
    step = room - min(stride, room // 2)
    starts = range(0, count - room + step, step)
    return [_window(row, start, min(room, count - start), nothing) for start in starts]


def _window(row: Encoded, start: int, count: int, nothing: Literal["first", "last"]) -> Window:
    first, end = row.prompt_tokens, row.prompt_tokens + len(row.words)
    begin = first + start
    ids, targets = ([*them[:first], *them[begin : begin + count], *them[end:]] for them in (row.ids, row.targets))
    answer = [token for token in range(first, end) if row.targets[token]]
    answered = bool(answer) and begin <= answer[0] and answer[-1] < begin + count
    at = 0 if nothing == "first" else len(ids) - 1
    truth = (answer[0] - start, answer[-1] - start) if answered else (at, at)
    words = tuple(range(first, first + count))
    said = (float(truth[0]), float(truth[1]))
    return Window(replace(row, ids=ids, targets=targets, words=words, truth=said), start, answered)
