"""Answers held to a form, by the library llguidance: a grammar says which tokens may come next."""

import json
import threading
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from luthier.core.errors import LuthierError

MOST_BYTES = 50_000
"""Of a schema: 170 KB of properties take seconds, in which nobody is answered."""
BLANKS = {"whitespace_pattern": r"[ \n\t]{0,32}"}
"""A model may not fill its whole answer with blanks."""


class GrammarError(LuthierError):
    """A schema that no answer can be held to."""

    code = "bad_schema"
    exit_status = 2
    usual_hint = "simplify the schema"


def json_object() -> str:
    """Return the grammar of any JSON object."""
    return json_schema({"type": "object"})


def json_schema(schema: dict[str, Any]) -> str:
    """Return the grammar of a JSON schema; GrammarError with the library's reason where it cannot be had."""
    try:
        text = json.dumps(schema)
    except RecursionError:
        raise GrammarError("the schema is nested too deep") from None
    if len(text) > MOST_BYTES:
        raise GrammarError("the schema is too large", why=f"it has {len(text):,} bytes, {MOST_BYTES:,} are read")
    try:
        grammar = LLMatcher.grammar_from_json_schema(text, overrides=BLANKS)
        wrong = LLMatcher.validate_grammar(grammar)
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise GrammarError("the schema cannot be used", why=wrong.splitlines()[0][:300])
    return grammar


class Grammars:
    """What the grammars of all rows share: the tokenizer in the library's form, made when first needed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._own: LLTokenizer | None = None
        self._making = threading.Lock()

    @property
    def own(self) -> LLTokenizer:
        """The tokenizer in the library's form."""
        with self._making:
            if self._own is None:
                self._own = from_tokenizer(self._tokenizer, self._vocabulary)
            return self._own

    def follow(self, grammar: str) -> "Follower":
        """Return what holds one row to a grammar."""
        return Follower(LLMatcher(self.own, grammar), self._vocabulary)

    def utf8(self, token: int) -> bytes:
        """Return a token's own bytes."""
        return self.own.decode_bytes([token])


class Follower:
    """Holds one row to its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._mask = allocate_token_bitmask(1, vocabulary)
        self._vocabulary = vocabulary
        self._check()

    @property
    def is_done(self) -> bool:
        """Whether nothing may follow."""
        return self._matcher.is_stopped()

    def allowed(self) -> torch.Tensor:
        """Return which tokens may come next, (V,)."""
        fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        bits = (self._mask[0][:, None] >> torch.arange(32, dtype=torch.int32)) & 1
        return bits.flatten()[: self._vocabulary].bool()

    def take(self, token: int) -> None:
        """Go on after a token."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            # The lines after the first one show what was said so far.
            why = self._matcher.get_error().splitlines()[0][:300]
            raise GrammarError("the answer cannot be held to this form", why=why)
