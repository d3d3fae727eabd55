"""Full fine-tuning: every weight is trained."""

from typing import TYPE_CHECKING, ClassVar, Literal

from luthier.core.spec import Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class FullSpec(Spec):
    """Train all weights of the model."""

    name: Literal["full"] = "full"
    """The adapter's name in a recipe."""

    traits: ClassVar[Traits] = Traits(whole=True, rate=0.1)

    def build(self) -> "Adapter":
        """Return what prepares and saves all weights."""
        from luthier.model.adapting.whole import FullWeights

        return FullWeights()
