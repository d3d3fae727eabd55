"""Regression: a head that says a number of a text."""

from typing import TYPE_CHECKING, ClassVar, Literal

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Auto, Spec
from luthier.model.headcard import Pooling

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class RegressSpec(Spec):
    """Say a text's number by a head on the model: least squares. Encoders and causal models."""

    name: Literal["regress"] = "regress"
    """The method's name in a recipe."""

    pooling: Auto | Pooling = "auto"
    """What the head reads: as the `model`'s own class, or the `mean` of all tokens; `auto` asks the base's files."""
    start: Literal["linear", "drawn"] = "linear"
    """The head's first weights: a linear fit on the untuned model's vectors of the rows, or drawn from the seed."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = ("score",)
    formats: ClassVar[tuple[str, ...]] = ("scored",)

    def build(self) -> "Method":
        """Return the loss, counted in rows."""
        from luthier.train.methods.regress.loss import RegressLoss

        return RegressLoss()
