"""Classification: a head that names a text's label, or its labels."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Auto, Spec
from luthier.model.headcard import Pooling

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class ClassifySpec(Spec):
    """Name a text's label by a head on the model; of rows with `labels`, all that fit. Encoders and causal models."""

    name: Literal["classify"] = "classify"
    """The method's name in a recipe."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    """How much the rows of each label count: all the same, as if all labels were as frequent, or as named here."""
    calibrate: bool = True
    """Fit one temperature on the validation rows, so that probabilities are what they say (Guo et al. 2017)."""

    pooling: Auto | Pooling = "auto"
    """What the head reads: as the `model`'s own class, or the `mean` of all tokens; `auto` asks the base's files."""
    start: Literal["linear", "drawn"] = "linear"
    """The head's first weights: a linear fit on the untuned model's vectors of the rows, or drawn from the seed."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = ("label", "labels")
    formats: ClassVar[tuple[str, ...]] = ("labelled", "multi_labelled")

    def build(self) -> "Method":
        """Return the loss, counted in rows."""
        from luthier.train.methods.classify.loss import ClassifyLoss

        return ClassifyLoss(self.class_weights)
