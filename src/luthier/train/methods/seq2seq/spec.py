"""Sequence to sequence: an encoder-decoder reads a source text and writes a target text."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.artifacts import HeadKind
from luthier.core.spec import Spec

if TYPE_CHECKING:
    from luthier.train.methods.method import Method


class Seq2SeqSpec(Spec):
    """Cross-entropy on the target text (summary, translation), given the source text. Encoder-decoders (T5, BART)."""

    name: Literal["seq2seq"] = "seq2seq"
    """The method's name in a recipe."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each target that is spread evenly over all tokens in training; validation losses stay without it."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = ()

    def build(self) -> "Method":
        """Return the loss, counted in target tokens: the one of `sft`, which its step computes on the decoder."""
        from luthier.train.methods.sft.loss import SftLoss

        return SftLoss(self.label_smoothing)
