"""BOFT: orthogonal blocks in a butterfly's order (Liu et al. 2023, arXiv:2311.06243), by PEFT."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Auto, Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class BoftSpec(Spec):
    """Rotations of the linear layers' weights by products of small blocks; slow, since whole weights are turned."""

    name: Literal["boft"] = "boft"
    """The adapter's name in a recipe."""
    block_size: int = Field(4, ge=2, le=4096)
    """Inputs that are turned together; it divides the inputs of each layer."""
    factors: int = Field(1, ge=1, le=16)
    """Rotations one after the other, each of which mixes other inputs; more than 1 need PEFT's CUDA extension."""
    target_modules: Auto | tuple[str, ...] = "auto"
    """Names of the layers to turn; `auto` takes every linear layer but the LM head."""

    traits: ClassVar[Traits] = Traits("BOFT")

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.configs import boft

        return boft(self)
