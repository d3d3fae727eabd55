"""OFT: weights turned by small orthogonal blocks (Qiu et al. 2023, arXiv:2306.07280), by PEFT."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Auto, Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class OftSpec(Spec):
    """Rotations of the linear layers' inputs, block by block, which keep angles between weights."""

    name: Literal["oft"] = "oft"
    """The adapter's name in a recipe."""
    block_size: int = Field(32, ge=2, le=4096)
    """Inputs that are turned together; it divides the inputs of each layer."""
    target_modules: Auto | tuple[str, ...] = "auto"
    """Names of the layers to turn; `auto` takes every linear layer but the LM head."""

    traits: ClassVar[Traits] = Traits("OFT")

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.configs import oft

        return oft(self)
