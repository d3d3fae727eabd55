"""The optimisers a recipe may name, each with its own options; `train.weight_decay` holds for all of them."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.train.optimizers.build import Kind

Share = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Spec):
    """What all optimisers say of themselves."""

    takes_betas: ClassVar[bool] = False
    """Whether `train.betas` means something to it."""
    rate_share: ClassVar[float | None] = None
    """The learning rate that `auto` chooses, as a share of AdamW's; None where there is no rule."""
    kept_bytes: ClassVar[float]
    """Memory of its state, in bytes per trained weight."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What must be installed beside Luthier's own packages."""
    needs_gpu: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    """Whether it keeps its own average of the weights, in place of a schedule."""

    def state_bytes(self, *, whole: bool = False) -> float:
        """Return the memory of its state, in bytes per trained weight; `whole` where all kinds of weights are."""
        return self.kept_bytes


class AdamWSpec(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), by torch."""

    name: Literal["adamw"] = "adamw"
    """The optimiser's name in a recipe."""

    takes_betas: ClassVar[bool] = True
    rate_share: ClassVar[float | None] = 1.0
    kept_bytes: ClassVar[float] = 8

    def build(self) -> "Kind":
        """Return what makes it over groups of weights."""
        from luthier.train.optimizers.build import adamw

        return adamw


class AdafactorSpec(Optimizer):
    """Second moments kept as one number per row and column (Shazeer and Stern 2018, arXiv:1804.04235), by torch.

    Its steps are relative to the size of each weight tensor, so its rates are not AdamW's.
    """

    name: Literal["adafactor"] = "adafactor"
    """The optimiser's name in a recipe."""
    beta2_decay: float = Field(-0.8, lt=0, ge=-1)
    """How the second moment's decay rate nears 1: it is 1 - step to this power."""
    clip: float = Field(1.0, ge=1)
    """An update whose root mean square is larger is scaled down to it."""

    kept_bytes: ClassVar[float] = 0.1

    def build(self) -> "Kind":
        """Return what makes it over groups of weights."""
        from luthier.train.optimizers.build import adafactor

        return adafactor(self)


class LionSpec(Optimizer):
    """The sign of a momentum (Chen et al. 2023, arXiv:2302.06675): half of AdamW's state, smaller rates."""

    name: Literal["lion"] = "lion"
    """The optimiser's name in a recipe."""
    betas: tuple[Share, Share] = (0.9, 0.99)
    """How much of the momentum stands in an update, and how much of it is kept."""

    rate_share: ClassVar[float | None] = 0.2
    kept_bytes: ClassVar[float] = 4

    def build(self) -> "Kind":
        """Return what makes it over groups of weights."""
        from luthier.train.optimizers.build import lion

        return lion(self)


class MuonSpec(Optimizer):
    """Orthogonalised momentum for matrices (Jordan et al. 2024), by torch; AdamW for embeddings, head and vectors.

    Updates are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so its rates are AdamW's.
    """

    name: Literal["muon"] = "muon"
    """The optimiser's name in a recipe."""
    momentum: Share = 0.95
    """How much of the momentum is kept."""
    nesterov: bool = True
    """Look ahead by one step of the momentum."""

    takes_betas: ClassVar[bool] = True
    rate_share: ClassVar[float | None] = 1.0
    kept_bytes: ClassVar[float] = 4

    def state_bytes(self, *, whole: bool = False) -> float:
        """Return the memory of its state, in bytes per trained weight: AdamW's where embeddings may be most of them."""
        return AdamWSpec.kept_bytes if whole else self.kept_bytes

    def build(self) -> "Kind":
        """Return what makes it over groups of weights."""
        from luthier.train.optimizers.build import muon

        return muon(self)


class SgdSpec(Optimizer):
    """Plain gradient descent with momentum, by torch; `train.weight_decay` is added to the gradient."""

    name: Literal["sgd"] = "sgd"
    """The optimiser's name in a recipe."""
    momentum: Share = 0.9
    """How much of the former steps is kept; 0 keeps no state."""
    nesterov: bool = False
    """Look ahead by one step of the momentum."""

    kept_bytes: ClassVar[float] = 4

    def state_bytes(self, *, whole: bool = False) -> float:
        """Return the memory of its state, in bytes per trained weight; without momentum there is none."""
        return self.kept_bytes if self.momentum else 0.0

    def build(self) -> "Kind":
        """Return what makes it over groups of weights."""
        from luthier.train.optimizers.build import sgd

        return sgd(self)


class ScheduleFreeSpec(Optimizer):
    """AdamW with an average of the weights in place of a schedule (Defazio et al. 2024, arXiv:2405.15682).

    Gradients are taken near the average; the average is what is validated and kept.
    """

    name: Literal["schedule_free"] = "schedule_free"
    """The optimiser's name in a recipe."""
    weight_rate_power: float = Field(2.0, ge=0)
    """Steps count in the average by their learning rate to this power; 0 counts all alike."""

    takes_betas: ClassVar[bool] = True
    rate_share: ClassVar[float | None] = 1.0
    kept_bytes: ClassVar[float] = 8
    averages: ClassVar[bool] = True

    def build(self) -> "Kind":
        """Return what makes it over groups of weights."""
        from luthier.train.optimizers.build import schedule_free

        return schedule_free(self)


class AdamW8bitSpec(Optimizer):
    """AdamW with moments in eight bits (Dettmers et al. 2022, arXiv:2110.02861), by bitsandbytes; needs a GPU."""

    name: Literal["adamw_8bit"] = "adamw_8bit"
    """The optimiser's name in a recipe."""

    takes_betas: ClassVar[bool] = True
    rate_share: ClassVar[float | None] = 1.0
    kept_bytes: ClassVar[float] = 2.1
    packages: ClassVar[tuple[str, ...]] = ("bitsandbytes",)
    needs_gpu: ClassVar[bool] = True

    def build(self) -> "Kind":
        """Return what makes it over groups of weights."""
        from luthier.train.optimizers.build import adamw_8bit

        return adamw_8bit


OptimizerSpec = Annotated[
    AdamWSpec | AdafactorSpec | LionSpec | MuonSpec | SgdSpec | ScheduleFreeSpec | AdamW8bitSpec,
    Field(discriminator="name"),
]
