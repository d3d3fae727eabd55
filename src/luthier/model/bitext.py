"""Bitext: a source and a target text as an encoder-decoder reads and writes them; no chat template is needed."""

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from luthier.core.errors import DataError, ModelError
from luthier.core.files import sha256_of_json
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.model.checks import kind_of
from luthier.model.load import load_tokenizer
from luthier.model.template import Template

SIDES_APART = "\n"
"""Between a system message and the question: an encoder-decoder reads them as one text."""
LOOKED_AT = 256
"""Training rows from which is read what all have in common."""
ONE_SOURCE = "an encoder-decoder reads one source text and writes one target text"


class Bitext:
    """A tokenizer that makes a row of a source and a target: the source's ids, then the target's, which carry loss.

    Both have the special tokens that the tokenizer gives them, and the target always ends with end-of-text. How a
    decoder starts is not in the ids: the model's own class puts it before the target.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        if tokenizer.eos_token_id is None:
            raise ModelError("the model's tokenizer has no end-of-text token", where={"model": tokenizer.name_or_path})
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._special_ids = frozenset(tokenizer.all_special_ids)

    def encode(self, example: Example) -> Encoded:
        """Return both sides, whole and uncut; DataError where the row is no source with its target."""
        source, target = self.prompt_ids(example), self.target_ids(target_of(example))
        return joined(source, target)

    def prompt_ids(self, example: Example) -> list[int]:
        """Return what the encoder reads: the first `prompt_tokens` ids of `encode`."""
        return self.source_ids(source_of(example))

    def source_ids(self, text: str) -> list[int]:
        """Return a source text's ids."""
        ids = list(self.tokenizer(whole(text), verbose=False)["input_ids"])
        if not ids:
            raise DataError("the source has no token")
        return ids

    def target_ids(self, text: str) -> list[int]:
        """Return a target text's ids, which end with end-of-text."""
        ids = list(self.tokenizer(text_target=whole(text), verbose=False)["input_ids"])
        # Some tokenizers name the language after the end.
        return ids if self.eos_id in ids[-2:] else [*ids, self.eos_id]

    def text(self, ids: Iterable[int]) -> str:
        """Return the text of generated ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def cut(self, encoded: Encoded, limit: int) -> Encoded:
        """Return both sides cut to so many ids each; the special tokens that end them stay."""
        at = encoded.prompt_tokens
        return joined(self.cut_side(encoded.ids[:at], limit), self.cut_side(encoded.ids[at:], limit))

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return frozenset([self.eos_id])

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the tokenizer: the same hash means the same ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend else self.tokenizer.get_vocab()
        return sha256_of_json(["bitext", vocabulary, self.source_ids("a"), self.target_ids("a")])

    def cut_side(self, ids: list[int], limit: int) -> list[int]:
        """Return the beginning of a side's ids, with the special tokens that end it."""
        if len(ids) <= limit:
            return ids
        closing = next((n for n, token in enumerate(reversed(ids)) if token not in self._special_ids), 0)
        return [*ids[: max(limit - closing, 0)], *ids[len(ids) - closing :]][:limit]


def words_of(folder: Path) -> Template | Bitext:
    """Return what makes tokens of rows for a checked model folder that writes: two sides, or turns of its template."""
    tokenizer = load_tokenizer(folder)
    return Bitext(tokenizer) if kind_of(folder) == "encoder-decoder" else Template(tokenizer)


def joined(source: Sequence[int], target: Sequence[int]) -> Encoded:
    """Return a row of two sides."""
    return Encoded([*source, *target], [False] * len(source) + [True] * len(target), len(source))


def longer_side(encoded: Encoded) -> int:
    """Return how many ids of a row stand side by side in the model: those of its source or of its target."""
    return max(encoded.prompt_tokens, len(encoded.ids) - encoded.prompt_tokens)


def source_of(example: Example) -> str:
    """Return the text that an example's answer is made from; DataError where that is not one text."""
    context = example.context
    if context is None:
        raise DataError("the row has no source text", why=ONE_SOURCE)
    if context.segments:
        return context.text.strip()
    roles = [message.role for message in context.messages]
    if roles[-1:] != ["user"] or roles.count("user") > 1 or "assistant" in roles or "tool" in roles or context.tools:
        raise DataError("the row is a conversation of several turns", why=ONE_SOURCE)
    return SIDES_APART.join(message.content for message in context.messages)


def instruction_of(train: Split) -> str:
    """Return the words that all sources begin with and that end as an instruction does: in a colon or a new line."""
    sources = [source_of(train.example(row)) for row in range(min(LOOKED_AT, len(train)))]
    shared = os.path.commonprefix(sources) if len(sources) > 1 else ""
    end = max(shared.rfind(": ") + 1, shared.rfind("\n"))
    return shared[: end + 1] if end > 0 else ""


def target_of(example: Example) -> str:
    """Return the text that an example's answer is."""
    return example.answer.strip() if example.segments else example.answer


def whole(text: str) -> str:
    """Return the text; DataError where it holds half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError("the text holds half of a character (a lone surrogate)", why=str(error)) from error
    return text
