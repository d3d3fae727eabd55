"""Supervised fine-tuning: imitate the answers."""

from typing import TYPE_CHECKING, ClassVar, Literal

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class SftSpec(Spec):
    """Cross-entropy on the target tokens (the assistant's turns, with the end-of-turn token)."""

    name: Literal["sft"] = "sft"
    """The method's name in a recipe."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = ()

    def build(self) -> "Method":
        """Return the loss, counted in target tokens."""
        from luthier.train.methods.sft.loss import SftLoss

        return SftLoss()
