"""Regression: a head that says a number of a text."""

from typing import TYPE_CHECKING, ClassVar, Literal

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class RegressSpec(Spec):
    """Say a text's number by a head on the model: least squares. Encoders and causal models."""

    name: Literal["regress"] = "regress"
    """The method's name in a recipe."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = ("score",)
    formats: ClassVar[tuple[str, ...]] = ("scored",)

    def build(self) -> "Method":
        """Return the loss, counted in rows."""
        from luthier.train.methods.regress.loss import RegressLoss

        return RegressLoss()
