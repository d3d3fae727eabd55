"""Setting: what a baseline may use to ask its questions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from luthier.evaluate.instruction import with_instruction
from luthier.examples.example import Example
from luthier.examples.store import Split
from luthier.model.bitext import Bitext
from luthier.model.template import Template


@dataclass(frozen=True)
class Setting:
    """The training split to draw from, the allowed answers, and how long a request may be."""

    template: Template | Bitext
    train: Split
    labels: tuple[str, ...]
    """The closed set of answers; empty where answers are open."""
    wording: str
    """Names the allowed answers; empty where the prompts do it themselves, or where answers are free."""
    shots: int | Literal["auto"]
    request_tokens: int
    """Tokens that a request may have."""
    seed: int
    note: Callable[[str], None]
    """Says something in the run's events."""

    def told(self, example: Example) -> Example:
        """Return the example with the allowed answers named in its prompt."""
        return with_instruction(example, self.wording) if self.wording else example
