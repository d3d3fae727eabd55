"""LayerNorm tuning: only the norms' gains train (Zhao et al. 2023, arXiv:2312.11420), by PEFT."""

from typing import TYPE_CHECKING, ClassVar, Literal

from luthier.core.spec import Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class LnTuningSpec(Spec):
    """Train all norms of the model and nothing else."""

    name: Literal["ln_tuning"] = "ln_tuning"
    """The adapter's name in a recipe."""

    traits: ClassVar[Traits] = Traits("LN_TUNING", rate=10)

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.configs import ln_tuning

        return ln_tuning(self)
