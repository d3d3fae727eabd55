"""Question answering: a head that points at the piece of a text that answers a question."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Auto, Spec

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class QaSpec(Spec):
    """Point at the piece of a text that answers a question, or say that none does. Encoders, and many causal models."""

    name: Literal["qa"] = "qa"
    """The method's name in a recipe."""
    stride: int = Field(128, ge=0)
    """Tokens that neighbouring windows share, where a text is longer than `data.max_tokens`; half a window at most."""
    max_answer_tokens: Auto | Annotated[int, Field(ge=1)] = "auto"
    """The longest answer that is looked for; `auto` takes the longest of the training rows."""
    no_answer_threshold: Auto | float = "auto"
    """By how many logits nothing must lead the best answer to be said; `auto` fits it on the validation rows."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = ("quote",)
    formats: ClassVar[tuple[str, ...]] = ("squad",)

    def build(self) -> "Method":
        """Return the loss, counted in windows."""
        from luthier.train.methods.qa.loss import QaLoss

        return QaLoss()
