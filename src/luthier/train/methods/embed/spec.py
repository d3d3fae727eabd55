"""Vectors of texts: what is alike lies near, and what is not lies far."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from luthier.core.artifacts import HeadKind, VectorKind
from luthier.core.spec import BLOCK_BRANCH, NAME_BRANCH, Auto, Spec, branch_of
from luthier.model.headcard import Pooling

if TYPE_CHECKING:
    from luthier.train.methods.method import Method

LossName = Literal["in_batch_negatives", "contrastive", "cosine", "triplet"]
KINDS: dict[str, VectorKind] = {"text_pairs": "match", "triplets": "triplet", "scored_pairs": "likeness"}
"""What the rows of each data format tell."""
LOSS_FORMATS: dict[LossName, tuple[str, ...]] = {
    "in_batch_negatives": ("text_pairs", "triplets"),
    "contrastive": ("scored_pairs",),
    "cosine": ("scored_pairs",),
    "triplet": ("triplets",),
}
TEMPERATURE = 0.05
MARGINS = {"contrastive": 0.5, "triplet": 5.0}


class LossFile(Spec):
    """A loss of your own: a `torch.nn.Module` in a Python file. The file runs, since the recipe names it."""

    file: str
    """The Python file; a relative path counts from the recipe's folder."""
    class_name: str = Field(pattern=r"^[A-Za-z_]\w*$")
    """The class in it; `forward` takes the vectors of each of a row's texts, and a scored pair's `label` last."""
    options: dict[str, bool | int | float | str] = {}
    """What the class is made with, by name: `{margin: 0.5}`."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """The file's hash; written into the plan, and another file is then refused."""


LossEntry = Annotated[
    Annotated[Literal["auto", LossName], Tag(NAME_BRANCH)] | Annotated[LossFile, Tag(BLOCK_BRANCH)],
    Discriminator(branch_of),
]
"""A loss as a recipe writes it: by its name, or as a file of the user's own."""


class EmbedSpec(Spec):
    """Train texts' vectors on pairs, triplets or scored pairs of texts. Encoders and causal models."""

    name: Literal["embed"] = "embed"
    """The method's name in a recipe."""
    loss: LossEntry = "auto"
    """What is made small; `auto` chooses by the rows. A loss of your own is `file.py:Class`, or a block."""
    temperature: Annotated[float, Field(gt=0, le=10)] | None = None
    """Of in-batch negatives: similarities are divided by it (0.05, which sentence-transformers calls a scale of 20)."""
    margin: Annotated[float, Field(gt=0, le=1000)] | None = None
    """How far apart is far enough: 0.5 of cosine distance for `contrastive`, 5 of Euclidean distance for `triplet`."""
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Lengths to which a vector may be cut: the loss is summed over the first so many numbers (arXiv:2205.13147)."""
    normalize: bool = True
    """Whether vectors have the length 1, in the loss and wherever they are used."""

    pooling: Auto | Pooling = "auto"
    """What is a text's vector: the `model`'s own place (encoders: the first token's state, causal models: the last
    one's), or the `mean` of all tokens; `auto` asks the base's files."""

    takes_pairs: ClassVar[bool] = False
    heads: ClassVar[tuple[HeadKind, ...]] = get_args(VectorKind)
    formats: ClassVar[tuple[str, ...]] = tuple(KINDS)

    @model_validator(mode="after")
    def _lengths_differ(self) -> Self:
        if len(set(self.matryoshka)) < len(self.matryoshka):
            raise ValueError("a length stands twice in `matryoshka`")
        return self

    @property
    def spans_batch(self) -> bool:
        """Whether a row's loss depends on the other rows of its batch, or may."""
        return not (isinstance(self.loss, str) and self.loss in ("contrastive", "cosine", "triplet"))

    def build(self) -> "Method":
        """Return the loss, counted in rows."""
        from luthier.train.methods.embed.loss import EmbedLoss

        return EmbedLoss(self)
