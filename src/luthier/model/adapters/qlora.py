"""QLoRA: LoRA on a base whose linear layers are kept in 4 bits (Dettmers et al. 2023, arXiv:2305.14314)."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Auto, Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter

ROUNDED_BASE = "rounded_base.json"
"""Stands beside an adapter that was trained on a rounded base, and says how that is made."""


class QloraSpec(Spec):
    """Low-rank updates on a base that is rounded to 4-bit NormalFloat (NF4) and stays so; saves memory, costs time."""

    name: Literal["qlora"] = "qlora"
    """The adapter's name in a recipe."""
    r: int = Field(16, ge=1, le=4096)
    """Rank of the update."""
    alpha: Auto | Annotated[float, Field(gt=0)] = "auto"
    """Scale of the update, divided by r; `auto` is 2 r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the update; above 0, shared prefixes are not computed once (each row has its own mask)."""
    target_modules: Auto | tuple[str, ...] = "auto"
    """Names of the layers to update; `auto` takes every linear layer but the LM head."""
    block_size: Literal[32, 64, 128, 256] = 64
    """Weights that share a scale; smaller blocks are nearer to the base and larger."""
    init: Literal["default", "loftq"] = "default"
    """How the update begins: as nothing, or (`loftq`, arXiv:2310.08659) as the largest part of what rounding lost."""
    double: bool = True
    """Keep the scales themselves in 8 bits: 0.37 bits a weight less."""

    traits: ClassVar[Traits] = Traits("LORA", start="given")

    def build(self) -> "Adapter":
        """Return what rounds the base, attaches and saves this adapter."""
        from luthier.model.adapting.qlora import Qlora

        return Qlora(self)
