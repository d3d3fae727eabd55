"""VeRA: two small vectors per layer between random matrices that all layers share (arXiv:2310.11454), by PEFT."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Auto, Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class VeraSpec(Spec):
    """Scales of shared random low-rank updates: a tenth of LoRA's weights and fewer (Kopiczko et al. 2023)."""

    name: Literal["vera"] = "vera"
    """The adapter's name in a recipe."""
    r: int = Field(256, ge=1, le=4096)
    """Rank of the shared random matrices; it costs time, and r weights a layer."""
    d_initial: float = Field(0.1, gt=0)
    """What the inner vector's entries begin with; the outer one begins with zeros."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the update; above 0, shared prefixes are not computed once (each row has its own mask)."""
    target_modules: Auto | tuple[str, ...] = "auto"
    """Names of the layers to update; `auto` takes every linear layer but the LM head."""

    traits: ClassVar[Traits] = Traits("VERA", rate=10)

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.configs import vera

        return vera(self)
