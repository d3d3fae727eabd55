"""P-tuning: word vectors before each conversation, made by a small network (Liu et al. 2021, arXiv:2103.10385)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Spec
from luthier.model.adapters.traits import BEFORE, Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class PTuningSpec(Spec):
    """Virtual tokens whose vectors a small network makes while training; they take room of the model's context."""

    name: Literal["p_tuning"] = "p_tuning"
    """The adapter's name in a recipe."""
    virtual_tokens: int = Field(20, ge=1, le=4096)
    """How many there are."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """The network that makes them; only its result is saved."""
    hidden: int = Field(128, ge=1, le=65_536)
    """Width of the network."""

    traits: ClassVar[Traits] = Traits("P_TUNING", unmergeable=BEFORE, start="drawn", rate=5)

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.prompts import p_tuning

        return p_tuning(self)
