"""Supervised fine-tuning: imitate the answers."""

from typing import TYPE_CHECKING, Literal

from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.train.methods.sft.loss import LossFn


class SftSpec(Spec):
    """Cross-entropy on the target tokens (the assistant's turns, with the end-of-turn token)."""

    name: Literal["sft"] = "sft"
    """The method's name in a recipe."""

    def build(self) -> "LossFn":
        """Return the loss: (model, batch) → (loss sum, target tokens)."""
        from luthier.train.methods.sft.loss import sft_loss

        return sft_loss
