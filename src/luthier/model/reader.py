"""Reader: raw text to token ids for a head, with the tokenizer's own special tokens and the place of each word."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from luthier.core.errors import DataError, ModelError
from luthier.core.files import sha256_of_json
from luthier.examples.example import Example
from luthier.examples.spans import Place, tags_of, words_of
from luthier.examples.store import Encoded, read_whole
from luthier.model.pairs import Pair, read_pair


@dataclass(frozen=True)
class Reading:
    """A text as a model with a head reads it."""

    ids: list[int]
    words: list[Place]
    """Where each word stands in the text; words that share their first token are one."""
    tokens: list[int]
    """The first token of each word."""
    closing: int
    """How many special tokens end it."""

    def cut(self, limit: int) -> "Reading":
        """Return the beginning of it, at most so many ids, with the special tokens that end it."""
        if len(self.ids) <= limit:
            return self
        kept = max(limit - self.closing, 1)
        ids = self.ids[:kept] + self.ids[len(self.ids) - self.closing :]
        whole = sum(token < kept for token in self.tokens)
        return Reading(ids[:limit], self.words[:whole], self.tokens[:whole], self.closing)


class Reader:
    """A tokenizer for models with a head; no chat template is needed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            why = "only fast tokenizers tell which characters a token stands for"
            raise ModelError("this model's tokenizer cannot be used", where={"model": tokenizer.name_or_path}, why=why)
        self.tokenizer = tokenizer

    def read(self, text: str) -> Reading:
        """Return a text's ids and words."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError("the text holds half of a character (a lone surrogate)", why=str(error)) from error
        # One text at a time: truncation and padding that a tokenizer's file asks for are set aside by the call.
        read = self.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        ids, special = list(read["input_ids"]), list(read["special_tokens_mask"])
        if not ids:
            raise DataError("the text has no token")
        places = [
            None if is_special else place for place, is_special in zip(read["offset_mapping"], special, strict=True)
        ]
        words, tokens = _first_tokens(words_of(text), places)
        closing = next((number for number, is_special in enumerate(reversed(special)) if not is_special), 0)
        return Reading(ids, words, tokens, closing)

    def pair(self, question: str, text: str) -> Pair:
        """Return a question and the text that it is asked about, as one row."""
        return read_pair(self.tokenizer, question, text)

    def encode(self, example: Example) -> Encoded:
        """Return a judged text's ids, with the places from which a head is trained."""
        if example.quotes is not None:
            question, text = (segment.text for segment in example.segments)
            return self.pair(question, text).encoded(example.quotes)
        if example.others is not None:
            first, *others = [self._whole(text) for text in example.texts]
            return replace(first, others=tuple(others))
        reading = self.read(example.text)
        count, targets = len(reading.ids), [False] * len(reading.ids)
        if example.spans is None:
            # Encoders gather the text in their first token, causal models in their last one.
            targets[0 if reading.ids[0] == self.tokenizer.cls_token_id else -1] = True
            return Encoded(reading.ids, targets, count, closing=reading.closing)
        for token in reading.tokens:
            targets[token] = True
        tags = tuple(tags_of(reading.words, example.spans))
        return Encoded(reading.ids, targets, count, words=tuple(reading.tokens), tags=tags, closing=reading.closing)

    def _whole(self, text: str) -> Encoded:
        reading = self.read(text)
        return read_whole(reading.ids, closing=reading.closing)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the tokenizer: the same hash means the same ids."""
        return sha256_of_json(["reader", self.tokenizer.backend_tokenizer.to_str()])

    @property
    def pad_id(self) -> int:
        """The id that fills up short rows; where there is none, the one that ends texts."""
        found = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(number for number in found if number is not None)


def cut_encoded(encoded: Encoded, limit: int) -> Encoded:
    """Return the beginning of a judged text's ids, with the special tokens that end it."""
    if encoded.others:
        first, *others = [_cut_whole(one, limit) for one in encoded.answers]
        return replace(first, others=tuple(others))
    reading = Reading(encoded.ids, [(0, 1)] * len(encoded.words), list(encoded.words), encoded.closing).cut(limit)
    kept = len(reading.tokens)
    targets = [False] * len(reading.ids)
    for place in reading.tokens or [0 if encoded.targets[0] else len(targets) - 1] * (not encoded.words):
        targets[place] = True
    return Encoded(
        reading.ids,
        targets,
        len(targets),
        words=encoded.words[:kept],
        tags=encoded.tags[:kept],
        closing=encoded.closing,
    )


def _cut_whole(encoded: Encoded, limit: int) -> Encoded:
    return read_whole(Reading(encoded.ids, [], [], encoded.closing).cut(limit).ids)


def _first_tokens(words: Sequence[Place], places: Sequence[Place | None]) -> tuple[list[Place], list[int]]:
    """Return the words that have a token of their own, each with its first one; others join the word before."""
    found: list[Place] = []
    tokens: list[int] = []
    at = 0
    for start, end in words:
        while at < len(places) and (places[at] is None or places[at][1] <= max(start, places[at][0])):
            at += 1
        if at == len(places):
            break
        if places[at][0] >= end:
            # Its characters are in no token: tokenizers drop some signs.
            continue
        if tokens and tokens[-1] == at:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
            tokens.append(at)
    return found, tokens
