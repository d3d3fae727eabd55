"""From tokens to text as it comes: whole characters, and nothing of a stop text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

PART = "\ufffd"
"""What a tokenizer shows for a piece of a character."""
MOST_PARTS = 16
"""Tokens that may lack the rest of a character; more are no character at all."""


@dataclass
class Speaker:
    """One row's text."""

    tokenizer: PreTrainedTokenizerBase
    stop: Sequence[str]
    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    """Whether a stop text was reached."""
    _from: int = 0
    _shown: int = 0
    _held: str = ""

    def add(self, token: int) -> str:
        """Return the text that is certain with one token more."""
        self.ids.append(token)
        before, now = self._text(self.ids[self._from : self._shown]), self._text(self.ids[self._from :])
        if now.endswith(PART) and len(self.ids) - self._shown < MOST_PARTS:
            return ""
        # A few tokens stay in sight, since some tokenizers put spaces by what stands before.
        self._from, self._shown = self._shown, len(self.ids)
        return self.certain(now[len(before) :])

    def rest(self) -> str:
        """Return what was held back, at the answer's end."""
        if self.stopped:
            return ""
        before, now = self._text(self.ids[self._from : self._shown]), self._text(self.ids[self._from :])
        text = self.certain(now[len(before) :])
        return text if self.stopped else text + self._held

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def certain(self, text: str) -> str:
        """Hold back what may be the beginning of a stop text; cut off at one that is whole."""
        text = self._held + text
        ends = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        sizes = (size for stop in self.stop for size in range(1, len(stop)) if text.endswith(stop[:size]))
        held = max(sizes, default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]
