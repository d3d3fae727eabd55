"""Partial fine-tuning: the last layers train, the others stay as they are (Lee et al. 2019, arXiv:1911.03090)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class FreezeSpec(Spec):
    """Train the model's last layers and freeze the rest; a whole model is saved, as `full` does."""

    name: Literal["freeze"] = "freeze"
    """The adapter's name in a recipe."""
    layers: int = Field(2, ge=1)
    """How many of the last layers train."""
    head: bool = False
    """Train the last norm and the output layer too; where it shares its weights with the embeddings, these as well."""

    traits: ClassVar[Traits] = Traits(whole=True, rate=0.1)

    def build(self) -> "Adapter":
        """Return what prepares the last layers and saves the whole model."""
        from luthier.model.adapting.whole import LastLayers

        return LastLayers(self)
