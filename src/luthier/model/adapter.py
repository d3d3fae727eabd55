"""Attach, save, load and merge the weights that training moves."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.core.errors import ModelError
from luthier.model.headed import load_base, load_whole, task_of

if TYPE_CHECKING:
    from luthier.model.adapters.lora import LoraSpec

ADAPTER_FILE = "adapter_model.safetensors"


class Adapter(Protocol):
    """What decides which weights train, and how they are stored."""

    def attach(self, model: PreTrainedModel, *, seed: int) -> torch.nn.Module:
        """Return the model with exactly the weights to train requiring gradients."""
        ...

    def save(self, model: torch.nn.Module, folder: Path, *, base_model: str) -> None:
        """Write the trained weights as safetensors into `folder`."""
        ...


class PeftAdapter:
    """LoRA through PEFT."""

    def __init__(self, spec: "LoraSpec") -> None:
        self.spec = spec

    def attach(self, model: PreTrainedModel, *, seed: int) -> PeftModel:
        """Freeze the base and add low-rank updates, drawn from `seed`."""
        spec = self.spec
        config = LoraConfig(
            **task_of(model),
            r=spec.r,
            lora_alpha=2 * spec.r if spec.alpha == "auto" else spec.alpha,
            lora_dropout=spec.dropout,
            target_modules=self._targets(model),
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return get_peft_model(model, config)

    def _targets(self, model: PreTrainedModel) -> list[str] | str:
        if self.spec.target_modules == "auto":
            return "all-linear"
        known = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if is_linear(module)})
        unknown = [name for name in self.spec.target_modules if name.rsplit(".", 1)[-1] not in known]
        if unknown:
            raise ModelError(
                f"this model has no layer called {', '.join(unknown)}",
                where={"field": "train.adapter.target_modules"},
                hint=f"its linear layers are {', '.join(known)}",
            )
        return list(self.spec.target_modules)

    def save(self, model: PeftModel, folder: Path, *, base_model: str) -> None:
        """Write PEFT's own format, naming the base as the recipe does."""
        for config in model.peft_config.values():
            config.base_model_name_or_path = base_model
        model.save_pretrained(str(folder), save_embedding_layers=False)


class FullWeights:
    """Every weight trains."""

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """Let every weight require gradients; `seed` draws nothing here."""
        return model.requires_grad_(True)

    def save(self, model: PreTrainedModel, folder: Path, *, base_model: str) -> None:
        """Write the whole model."""
        model.save_pretrained(str(folder))


def is_linear(module: torch.nn.Module) -> bool:
    """Tell whether a module is a matrix product (torch's or GPT-2's transposed one)."""
    return isinstance(module, torch.nn.Linear | Conv1D)


def load_tuned(base_folder: Path, weights_folder: Path) -> torch.nn.Module:
    """Return the tuned model: the base with its adapter, or the fully tuned weights; fp32, eval mode."""
    config = weights_folder / "adapter_config.json"
    if not config.exists():
        return load_whole(weights_folder)
    if not (weights_folder / ADAPTER_FILE).exists():
        raise ModelError("the adapter has no safetensors file", where={"folder": weights_folder})
    told = json.loads(config.read_text())
    if told.get("peft_type") != "LORA":
        raise ModelError(
            "this kind of adapter is not known", where={"file": config}, why=f"it is {told.get('peft_type')}"
        )
    if told.get("auto_mapping"):
        raise ModelError("this adapter needs code from its repository, which never runs", where={"file": config})
    return PeftModel.from_pretrained(load_base(base_folder, weights_folder), str(weights_folder)).eval()


def merge(model: torch.nn.Module) -> PreTrainedModel:
    """Return a plain model with the updates added into the weights, in full precision."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def causal_lm(model: torch.nn.Module) -> PreTrainedModel:
    """Return the transformers model inside, with or without an adapter around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
