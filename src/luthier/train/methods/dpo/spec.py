"""Direct preference optimisation: make the better answer likelier than the worse one, and stay near the base model."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class DpoSpec(Spec):
    """Prefer the better answer of each pair, measured against the untuned model (Rafailov et al. 2023)."""

    name: Literal["dpo"] = "dpo"
    """The method's name in a recipe."""
    beta: float = Field(0.1, gt=0, le=2)
    """How strongly to stay near the untuned model; larger stays nearer."""

    takes_pairs: ClassVar[bool] = True
    heads: ClassVar[tuple[HeadKind, ...]] = ()

    def build(self) -> "Method":
        """Return the loss, counted in pairs."""
        from luthier.train.methods.dpo.loss import DpoLoss

        return DpoLoss(self.beta)
