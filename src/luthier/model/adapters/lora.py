"""LoRA: small low-rank updates beside frozen weights (Hu et al. 2021, arXiv:2106.09685), by PEFT."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from luthier.core.spec import Auto, Spec

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class LoraSpec(Spec):
    """Low-rank updates of the linear layers."""

    name: Literal["lora"] = "lora"
    """The adapter's name in a recipe."""
    r: int = Field(16, ge=1, le=4096)
    """Rank of the update."""
    alpha: Auto | Annotated[float, Field(gt=0)] = "auto"
    """Scale of the update, divided by r; `auto` is 2 r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the update; above 0, shared prefixes are not computed once (each row has its own mask)."""
    target_modules: Auto | tuple[str, ...] = "auto"
    """Names of the layers to update; `auto` takes every linear layer but the LM head."""

    def build(self) -> "Adapter":
        """Return what attaches, saves and merges this adapter."""
        from luthier.model.adapter import PeftAdapter

        return PeftAdapter(self)
