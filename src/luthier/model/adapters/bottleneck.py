"""Bottleneck adapters: small networks behind the layers' own (Houlsby et al. 2019, arXiv:1902.00751)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Spec
from luthier.model.adapters.traits import BETWEEN, Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class BottleneckSpec(Spec):
    """Networks of two thin layers that add to what attention and MLP say; they begin as nothing."""

    name: Literal["bottleneck"] = "bottleneck"
    """The adapter's name in a recipe."""
    size: int = Field(64, ge=1, le=65_536)
    """Width of the networks' inner states."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """Behind attention and MLP of each layer (`houlsby`), or behind the MLP alone (`pfeiffer`, arXiv:2005.00052)."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """The bend between the two thin layers."""

    traits: ClassVar[Traits] = Traits("LUTHIER_BOTTLENECK", unmergeable=BETWEEN, rate=2)

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.bottleneck import Bottlenecks

        return Bottlenecks(self)
