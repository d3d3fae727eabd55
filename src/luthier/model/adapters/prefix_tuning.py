"""Prefix tuning: learnt keys and values before each conversation (Li and Liang 2021, arXiv:2101.00190), by PEFT."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Spec
from luthier.model.adapters.traits import BEFORE, Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class PrefixTuningSpec(Spec):
    """Virtual tokens whose keys and values train in every layer; they take room of the model's context."""

    name: Literal["prefix_tuning"] = "prefix_tuning"
    """The adapter's name in a recipe."""
    virtual_tokens: int = Field(20, ge=1, le=4096)
    """How many there are."""
    projection: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Width of a network that makes keys and values while training, which is steadier; none trains them directly."""

    traits: ClassVar[Traits] = Traits("PREFIX_TUNING", unmergeable=BEFORE, start="drawn", rate=10, recomputes=False)

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.prompts import prefix_tuning

        return prefix_tuning(self)
