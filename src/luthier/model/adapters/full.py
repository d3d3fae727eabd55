"""Full fine-tuning: every weight is trained."""

from typing import TYPE_CHECKING, Literal

from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class FullSpec(Spec):
    """Train all weights of the model."""

    name: Literal["full"] = "full"
    """The adapter's name in a recipe."""

    def build(self) -> "Adapter":
        """Return what prepares, saves and merges all weights."""
        from luthier.model.adapter import FullWeights

        return FullWeights()
