"""PEFT's configs for the adapters that need nothing else."""

import warnings

import torch
from peft import AdaptionPromptConfig, BOFTConfig, IA3Config, LNTuningConfig, OFTConfig, VeraConfig
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.core.errors import ModelError
from luthier.core.spec import Auto
from luthier.model.adapters.boft import BoftSpec
from luthier.model.adapters.ia3 import Ia3Spec
from luthier.model.adapters.llama_adapter import LlamaAdapterSpec
from luthier.model.adapters.ln_tuning import LnTuningSpec
from luthier.model.adapters.oft import OftSpec
from luthier.model.adapters.vera import VeraSpec
from luthier.model.adapting.by_peft import ByPeft
from luthier.model.adapting.layers import check_names, check_untied, decoder_layers, is_asked, is_linear
from luthier.model.headed import task_of

TASK = "CAUSAL_LM"


def targets(asked: Auto | tuple[str, ...], model: PreTrainedModel) -> list[str] | str:
    """Return the layers that PEFT shall change; ModelError where the model has none of a name."""
    if asked == "auto":
        return "all-linear"
    check_names(asked, model, field="target_modules")
    check_untied(asked, model, field="target_modules")
    return list(asked)


def transposed(model: PreTrainedModel) -> bool:
    """Tell whether the model's layers keep their weights as (inputs, outputs)."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def vera(spec: VeraSpec) -> ByPeft:
    """Return VeRA; the shared random matrices are saved with it, so that it never depends on a generator."""
    return ByPeft(
        lambda model: VeraConfig(
            **task_of(model),
            r=spec.r,
            d_initial=spec.d_initial,
            vera_dropout=spec.dropout,
            target_modules=targets(spec.target_modules, model),
            fan_in_fan_out=transposed(model),
            save_projection=True,
        )
    )


def ia3(spec: Ia3Spec) -> ByPeft:
    """Return IA3."""

    def configure(model: PreTrainedModel) -> IA3Config:
        targets(spec.target_modules, model)
        return IA3Config(
            **task_of(model),
            target_modules=list(spec.target_modules) or None,
            feedforward_modules=list(spec.feedforward_modules) if spec.target_modules else None,
            fan_in_fan_out=transposed(model),
        )

    return ByPeft(configure)


def oft(spec: OftSpec) -> ByPeft:
    """Return OFT."""

    def configure(model: PreTrainedModel) -> OFTConfig:
        _check_blocks(spec.block_size, spec.target_modules, model)
        found = targets(spec.target_modules, model)
        return OFTConfig(**task_of(model), r=0, oft_block_size=spec.block_size, target_modules=found)

    return ByPeft(configure)


def boft(spec: BoftSpec) -> ByPeft:
    """Return BOFT."""

    def configure(model: PreTrainedModel) -> BOFTConfig:
        _check_blocks(spec.block_size, spec.target_modules, model)
        if spec.factors > 1:
            _check_butterflies()
        return BOFTConfig(
            **task_of(model),
            boft_block_size=spec.block_size,
            boft_n_butterfly_factor=spec.factors,
            target_modules=targets(spec.target_modules, model),
        )

    return ByPeft(configure)


def _check_butterflies() -> None:
    """Raise ModelError where PEFT would silently turn weights once instead of several times."""
    from peft.tuners.boft.layer import get_fbd_cuda  # looks for a compiler and a GPU

    with warnings.catch_warnings(action="ignore"):
        found = get_fbd_cuda()
    if found is None:
        raise ModelError(
            "BOFT turns weights only once on this machine",
            where={"field": "train.adapter.factors"},
            why="without its CUDA extension PEFT takes one factor, whatever is asked",
            hint="set it to 1, or train where CUDA's compiler and ninja are installed",
        )


def ln_tuning(spec: LnTuningSpec) -> ByPeft:
    """Return the tuning of all norms."""

    def configure(model: PreTrainedModel) -> LNTuningConfig:
        norms = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if _is_norm(module)}
        return LNTuningConfig(**task_of(model), target_modules=sorted(norms))

    return ByPeft(configure)


def llama_adapter(spec: LlamaAdapterSpec) -> ByPeft:
    """Return adaption prompts."""

    def configure(model: PreTrainedModel) -> AdaptionPromptConfig:
        if model.config.model_type not in ("llama", "mistral"):
            raise ModelError(
                "adaption prompts do not fit this model",
                where={"field": "train.adapter.name", "model": type(model).__name__},
                why="PEFT has them for Llama and Mistral",
                hint="take `adapter: prefix_tuning`, which fits more models",
            )
        check_layers(spec.layers, model)
        return AdaptionPromptConfig(task_type=TASK, adapter_len=spec.prompt_tokens, adapter_layers=spec.layers)

    return ByPeft(configure)


def check_layers(asked: int, model: PreTrainedModel) -> None:
    """Raise ModelError where the model has fewer layers."""
    count = len(decoder_layers(model))
    if asked > count:
        where = {"field": "train.adapter.layers"}
        raise ModelError(f"this model has no {asked} layers", where=where, hint=f"it has {count}")


def _is_norm(module: torch.nn.Module) -> bool:
    return type(module).__name__.endswith("Norm") and getattr(module, "weight", None) is not None


def _check_blocks(size: int, asked: Auto | tuple[str, ...], model: PreTrainedModel) -> None:
    if transposed(model):
        raise ModelError(
            "this adapter does not fit this model",
            where={"field": "train.adapter.name", "model": type(model).__name__},
            why="its layers keep their weights transposed, which PEFT cannot turn",
            hint="take `adapter: lora`",
        )
    head = model.get_output_embeddings()
    for name, part in model.named_modules():
        if is_linear(part) and part is not head and is_asked(name, asked) and part.in_features % size:
            raise ModelError(
                f"blocks of {size} do not divide the {part.in_features} inputs of {name}",
                where={"field": "train.adapter.block_size"},
                hint="take a size that divides the inputs of each layer, such as 4",
            )
