"""IA3: learnt factors on keys, values and the MLP's inner states (Liu et al. 2022, arXiv:2205.05638), by PEFT."""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from luthier.core.spec import Spec
from luthier.model.adapters.traits import Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class Ia3Spec(Spec):
    """One factor for each output of some layers, and for each input of others: very few weights."""

    name: Literal["ia3"] = "ia3"
    """The adapter's name in a recipe."""
    target_modules: tuple[str, ...] = ()
    """Names of the layers that are scaled; none means PEFT's choice for the model's family."""
    feedforward_modules: tuple[str, ...] = ()
    """Those of them whose inputs are scaled instead of their outputs."""

    traits: ClassVar[Traits] = Traits("IA3", rate=10)

    @model_validator(mode="after")
    def _are_targets(self) -> Self:
        if strange := set(self.feedforward_modules) - set(self.target_modules):
            raise ValueError(f"`feedforward_modules` are among `target_modules`, and {min(strange)} is not")
        return self

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.configs import ia3

        return ia3(self)
