"""LoRA: small low-rank updates beside frozen weights (Hu et al. 2021, arXiv:2106.09685), by PEFT."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from luthier.core.spec import Auto, Spec
from luthier.model.adapters.traits import Start, Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter

Init = Literal["default", "gaussian", "orthogonal", "pissa", "olora", "eva"]
BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of PEFT's `init_lora_weights` that change the base's weights too."""
MOVES_BASE = ("pissa", "olora")
"""Ways to begin that take a part of the base's weights into the update."""
READS_ROWS = ("eva",)
"""Ways to begin from what the layers read of rows of training."""


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
    init: Init = "default"
    """As nothing (`eva`: facing where the layers' inputs differ), or (`pissa`, `olora`) as a part of the weights."""
    rslora: bool = False
    """Divide the scale by the square root of r instead of r, which suits large ranks (arXiv:2312.03732)."""
    dora: bool = False
    """Train the weights' lengths apart from their directions (arXiv:2402.09353); slower, and served merged."""
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=4096)]] = {}
    """Other ranks for some of the layers, by the end of their names; served merged."""
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Other scales for some of the layers, by the end of their names; served merged."""
    modules_to_save: tuple[str, ...] = ()
    """Parts of the model that train whole, such as a norm, and are saved with the update; served merged."""
    start_from: str | None = None
    """Folder of a LoRA in PEFT's format to go on from; the options above must be those it was made with."""

    @property
    def traits(self) -> Traits:
        """What must be known of it without building it."""
        start: Start = "base" if self.start_from is None else "given"
        return Traits("LORA", start=start, reads_rows=self.init in READS_ROWS)

    @property
    def is_plain(self) -> bool:
        """Whether it can be served beside others on one base, unmerged."""
        return not (self.dora or self.rank_pattern or self.alpha_pattern or self.modules_to_save)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.init in READS_ROWS and self.start_from:
            raise ValueError("`init: eva` does not go with `start_from`: both decide what the update begins with")
        if self.init in MOVES_BASE and (self.dora or self.start_from):
            other = "dora" if self.dora else "start_from"
            raise ValueError(f"`init: {self.init}` does not go with `{other}`: both decide what the update begins with")
        if self.init == "orthogonal" and any(rank % 2 for rank in (self.r, *self.rank_pattern.values())):
            raise ValueError("`init: orthogonal` needs an even rank")
        return self

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.lora import Lora

        return Lora(self)
