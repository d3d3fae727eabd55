"""Extraction: a head that names the words of a text, and so its entities."""

from typing import TYPE_CHECKING, ClassVar, Literal

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class ExtractSpec(Spec):
    """Find a text's entities by a head that tags each word. Encoders only: a causal model has not read what follows."""

    name: Literal["extract"] = "extract"
    """The method's name in a recipe."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = ("spans",)
    formats: ClassVar[tuple[str, ...]] = ("tagged",)

    def build(self) -> "Method":
        """Return the loss, counted in words."""
        from luthier.train.methods.extract.loss import ExtractLoss

        return ExtractLoss()
