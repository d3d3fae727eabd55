"""What a recipe says about training."""

from typing import Annotated, Literal

from pydantic import Field

from luthier.core.artifacts import Base, HeadKind
from luthier.core.errors import DataError, ModelError
from luthier.core.spec import Auto, Spec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.adapters.union import AdapterSpec
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.dpo.spec import DpoSpec
from luthier.train.methods.embed.spec import LOSS_FORMATS, EmbedSpec
from luthier.train.methods.extract.spec import ExtractSpec
from luthier.train.methods.qa.spec import QaSpec
from luthier.train.methods.regress.spec import RegressSpec
from luthier.train.methods.seq2seq.spec import Seq2SeqSpec
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.optimizers.spec import AdamWSpec, OptimizerSpec
from luthier.train.schedules.spec import Cosine, ScheduleSpec

AnyMethod = SftSpec | DpoSpec | ClassifySpec | RegressSpec | ExtractSpec | QaSpec | EmbedSpec | Seq2SeqSpec
MethodSpec = Annotated[AnyMethod, Field(discriminator="name")]

BETAS = (0.9, 0.999)


class EarlyStopping(Spec):
    """Stop when the validation loss no longer falls."""

    patience: int = Field(3, ge=1)
    """Validations in a row without improvement before training stops."""
    min_delta: float = Field(0.0, ge=0)
    """The least fall of the validation loss that counts as improvement."""


class TrainSpec(Spec):
    """How the model is tuned."""

    method: MethodSpec = SftSpec()
    """The loss, and the data it needs."""
    adapter: AdapterSpec = LoraSpec()
    """Which weights are trained."""
    epochs: float | None = Field(None, gt=0, le=10_000)
    """Passes over the training rows (3 when neither epochs nor steps is set)."""
    steps: int | None = Field(None, gt=0, le=1_000_000_000)
    """Optimiser updates; instead of epochs."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=1_000_000)] = "auto"
    """Rows per optimiser update."""
    micro_batch_tokens: Auto | Annotated[int, Field(ge=1, le=1_000_000_000)] = "auto"
    """Tokens computed at once; changes speed and memory, never the result. `auto` follows the measured memory."""
    learning_rate: Auto | Annotated[float, Field(gt=0)] = "auto"
    """Peak learning rate."""
    optimizer: OptimizerSpec = AdamWSpec()
    """What turns gradients into steps."""
    schedule: ScheduleSpec = Cosine()
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """How strongly matrices are pulled towards zero in each step; norms, biases and other vectors never are."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = BETAS
    """AdamW's decay rates of the first and second moment, wherever AdamW has a part in the optimiser."""
    layer_decay: float | None = Field(None, gt=0, lt=1)
    """Each layer takes this share of the learning rate of the one above it; the embedding takes least."""
    loraplus_ratio: float | None = Field(None, gt=1, le=1000)
    """LoRA's B matrices take a learning rate so many times as large (LoRA+, Hayou et al. 2024)."""
    neftune_noise_alpha: float | None = Field(None, gt=0, le=1000)
    """Noise on the embeddings of training rows, within alpha / √(tokens · channels) (NEFTune, Jain et al. 2023)."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Validate and keep a moving average of the weights, of which each step leaves this share."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the matrix products; `auto` takes what this hardware does fast. Trained weights stay fp32."""
    gradient_checkpointing: Auto | bool = "auto"
    """Recompute activations instead of keeping them; `auto` only where memory asks for it."""
    activation_offload: bool = False
    """Keep activations in the CPU's memory between forward and backward pass; needs a GPU."""
    fast_step: Auto | bool = "auto"
    """Compute nothing twice: no pads, shared prefixes once, LM head only where there is loss. Same result."""
    compile: Auto | bool = "auto"
    """Compile the element-wise kernels (a quarter of a minute, then cached); `auto` where the run repays it."""
    checkpoint_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between checkpoints (a tenth of the run when unset); one is also kept on Ctrl-C."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many checkpoints are kept."""
    snapshots: int = Field(0, ge=0, le=10_000)
    """How many of the last epochs' weights are kept as models of their own."""
    validate_every: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Steps between validations; `auto` makes about ten."""
    early_stopping: EarlyStopping | None = None
    """When to stop before the last step; needs a validation split."""
    keep_best: bool = True
    """Keep the weights with the lowest validation loss instead of the last."""
    threads: Auto | Annotated[int, Field(ge=1, le=1024)] = "auto"
    """CPU threads; recorded, since another number gives other bits."""


GRADIENT_BYTES = 4
AVERAGE_BYTES = 4


def state_bytes(spec: TrainSpec) -> float:
    """Return the memory of gradient, optimiser and moving average, in bytes per trained weight."""
    average = AVERAGE_BYTES if spec.ema_decay is not None else 0
    return GRADIENT_BYTES + spec.optimizer.state_bytes(whole=spec.adapter.traits.whole) + average


def is_shared(spec: TrainSpec) -> bool:
    """Tell whether rows may share their beginnings: not where each draws a mask or a noise of its own."""
    return getattr(spec.adapter, "dropout", 0) == 0 and spec.neftune_noise_alpha is None


METHODS: tuple[type[AnyMethod], ...] = (
    SftSpec,
    DpoSpec,
    ClassifySpec,
    RegressSpec,
    ExtractSpec,
    QaSpec,
    EmbedSpec,
    Seq2SeqSpec,
)
PAIRS = "preference"
"""The data format whose rows are pairs of answers."""
JUDGED = ("multi_labelled", "scored", "tagged", *EmbedSpec.formats)
"""Data formats that say something of a text, and hold no answer to write."""
BARE = "text"
"""The data format whose rows have no prompt."""
ENCODERS_ONLY: tuple[HeadKind, ...] = ("spans",)


def is_seq2seq(method: AnyMethod) -> bool:
    """Tell whether a method is for models that read one text and write another."""
    return isinstance(method, Seq2SeqSpec)


def takes(method: AnyMethod, format: str) -> bool:
    """Tell whether a method takes rows of a data format."""
    if method.heads:
        return format in method.formats
    if is_seq2seq(method) and format == BARE:
        return False
    return format not in JUDGED and method.takes_pairs == (format == PAIRS)


def method_for(format: str, *, encoder: bool = False) -> AnyMethod:
    """Return the first method that takes rows of a data format, and can tune an encoder where it must."""
    return next(method for kind in METHODS if takes(method := kind(), format) and (method.heads or not encoder))


def check_data(method: AnyMethod, format: str) -> None:
    """Raise DataError unless the method takes rows of this data format."""
    if takes(method, format):
        if isinstance(method, EmbedSpec):
            _check_loss(method, format)
        return
    fitting = ", ".join(f"`{kind().name}`" for kind in METHODS if takes(kind(), format))
    needs = "pairs of a better and a worse answer" if method.takes_pairs else "rows with one answer"
    needs = "rows with a source text and a target text" if is_seq2seq(method) else needs
    if method.heads:
        needs = f"rows of the format {' or '.join(f'`{name}`' for name in method.formats)}"
    raise DataError(
        f"the method `{method.name}` does not take this data",
        where={"field": "train.method.name"},
        why=f"it needs {needs}, and the rows are read as `{format}`",
        hint=f"set `train.method.name` to a method for this format: {fitting}",
    )


def _check_loss(method: EmbedSpec, format: str) -> None:
    """Raise DataError unless the loss of vectors takes rows of this data format."""
    fits = [name for name, formats in LOSS_FORMATS.items() if format in formats]
    if isinstance(method.loss, str) and method.loss in LOSS_FORMATS and method.loss not in fits:
        needs = " or ".join(f"`{name}`" for name in LOSS_FORMATS[method.loss])
        raise DataError(
            f"the loss `{method.loss}` does not take this data",
            where={"field": "train.method.loss"},
            why=f"it needs rows of the format {needs}, and these are read as `{format}`",
            hint=f"set it to {' or '.join(f'`{name}`' for name in fits)}, or leave it on `auto`",
        )


def check_base(method: AnyMethod, base: Base) -> None:
    """Raise ModelError unless the method can tune this kind of model."""
    where = {"model": base.title, "field": "train.method.name"}
    if is_seq2seq(method) != (base.kind == "encoder-decoder"):
        raise _other_kind(method, base, where)
    if base.kind == "encoder" and not method.heads:
        names = ", ".join(f"`{kind().name}`" for kind in METHODS if kind().heads)
        why = "an encoder reads text and cannot write any"
        hint = f"train it with one of {names}, or name a causal model"
        raise ModelError(f"the method `{method.name}` cannot tune an encoder", where=where, why=why, hint=hint)
    if base.kind != "encoder" and set(method.heads) & set(ENCODERS_ONLY):
        why = "a causal model has not read what follows a word when it names it"
        hint = "name an encoder, such as `base_model: minilm`"
        raise ModelError(f"the method `{method.name}` needs an encoder", where=where, why=why, hint=hint)


def _other_kind(method: AnyMethod, base: Base, where: dict[str, str]) -> ModelError:
    """Say which methods tune a base that is an encoder-decoder, or is none and should be one."""
    if not is_seq2seq(method):
        why = "an encoder-decoder reads one text and writes another; it does not go on with a conversation"
        hint = "train it with `method: seq2seq`, or name a causal model"
        what = f"the method `{method.name}` cannot tune an encoder-decoder"
        return ModelError(what, where=where, why=why, hint=hint)
    why = "a causal model goes on with its own text" if base.kind == "causal" else "an encoder cannot write"
    other = "`method: sft`" if base.kind == "causal" else "`method: classify`, `regress` or `extract`"
    hint = f"name an encoder-decoder (T5, mT5, BART, mBART, Pegasus, Marian), or train this model with {other}"
    return ModelError("the method `seq2seq` needs an encoder-decoder", where=where, why=why, hint=hint)
