"""The head's card: what a head on a model says, over which labels, and how sure it may be; `head.json`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.core.artifacts import VECTOR_KINDS, HeadKind
from luthier.core.errors import ModelError
from luthier.core.files import write_atomic

if TYPE_CHECKING:
    from luthier.examples.store import Encoded

FILE = "head.json"
PROBLEMS: dict[HeadKind, str] = {
    "label": "single_label_classification",
    "labels": "multi_label_classification",
    "score": "regression",
}
"""What transformers calls each kind; entities have a class of models of their own."""
SCORE = "score"
ENDS = ("start", "end")
"""The outputs that say where an answer begins and ends."""
VECTOR = "vector"
Pooling = Literal["model", "mean"]


class HeadCard(BaseModel):
    """What must be known of a head beside its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: HeadKind
    """What it says of a text."""
    labels: tuple[str, ...]
    """The name of each of its outputs, in their order; tags for entities."""
    pooling: Pooling = "model"
    """How one output is made of many tokens: as the model's class does, or by their mean."""
    normalize: bool = True
    """Whether a text's vector has the length 1; only of vectors."""
    dimensions: tuple[int, ...] = ()
    """How many of a vector's first numbers are of use by themselves; only of vectors trained so."""
    tokens: int = Field(ge=1)
    """The most tokens a text had in training; longer ones are cut."""
    rows: tuple[int, ...] = ()
    """Training rows with each label."""
    texts: int = 0
    """All training rows."""
    mean: float = 0.0
    """Of the training rows' numbers; a head learns how far a number is from it, in spreads."""
    spread: float = 1.0
    """Their standard deviation."""
    temperature: float = Field(1.0, gt=0)
    """What the logits are divided by before they become probabilities."""
    fitted_on: int = 0
    """Validation rows on which the temperature, or the threshold, was fitted; 0 where it was not."""
    stride: int = 0
    """Tokens that neighbouring windows of a long text share; only of answers, as all that follows."""
    longest: int = 0
    """Tokens of the longest answer that is looked for."""
    nothing: Literal["first", "last"] = "first"
    """The token that says that the text does not say it."""
    segments: bool = False
    """Whether the model is told which tokens are the text's."""
    threshold: float | None = None
    """How much likelier, in logits, nothing must be than the best answer to be said; None: something is always said."""
    windows: int = 0
    """Windows of the training rows."""
    unreached: int = 0
    """Training rows left out since no window holds their answer whole."""

    @property
    def outputs(self) -> int:
        """How many numbers the head gives."""
        return len(self.labels)

    @property
    def is_vector(self) -> bool:
        """Whether it says a vector of the text, which needs no weights beside the model's."""
        return self.kind in VECTOR_KINDS

    @property
    def by_token(self) -> bool:
        """Whether the model gives outputs for each token, and not one for the text."""
        return self.kind in ("spans", "quote") or self.pooling == "mean"

    def counted(self, row: "Encoded") -> int | None:
        """Return of how many tokens of a row the outputs are kept; None where the row has one output."""
        return {"spans": len(row.words), "quote": len(row.ids)}.get(self.kind)

    @property
    def problem(self) -> str | None:
        """What transformers calls this kind of head."""
        return PROBLEMS.get(self.kind)

    def write(self, folder: Path) -> Self:
        """Write the card beside the weights."""
        write_atomic(folder / FILE, self.model_dump_json(indent=2) + "\n")
        return self

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the card of a folder of weights, or None where they have no head."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            card = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise ModelError("the head's card cannot be read", where={"file": path}, why=str(error)) from error
        if not card.labels or not math.isfinite(card.spread):
            raise ModelError("the head's card says nothing", where={"file": path}, why="it names no output")
        return card
