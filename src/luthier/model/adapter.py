"""Attach, save, load and merge the weights that training moves."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel

from luthier.core.errors import ModelError
from luthier.model.adapters.bottleneck import BottleneckSpec
from luthier.model.adapters.traits import BEFORE, BETWEEN, WITHIN
from luthier.model.adapters.union import KNOWN
from luthier.model.adapting.bottleneck import Bottleneck, load_bottlenecks
from luthier.model.adapting.layers import is_linear
from luthier.model.adapting.nf4 import Nf4Linear
from luthier.model.adapting.prompts import SoftPrompt, soft_prompt, with_soft_prompt
from luthier.model.adapting.qlora import round_base
from luthier.model.checks import read_json
from luthier.model.headed import load_base, load_whole
from luthier.model.load import LOAD_ERRORS, first_line

__all__ = ["Adapter", "adapter_off", "causal_lm", "is_linear", "load_tuned", "merge", "parameters", "ready"]

ADAPTER_FILE = "adapter_model.safetensors"


class Adapter(Protocol):
    """What decides which weights train, and how they are stored."""

    def attach(self, model: PreTrainedModel, *, seed: int) -> torch.nn.Module:
        """Return the model with exactly the weights to train requiring gradients."""
        ...

    def save(self, model: Any, folder: Path, *, base_model: str) -> None:
        """Write the trained weights as safetensors into `folder`."""
        ...


def load_tuned(base_folder: Path, weights_folder: Path) -> torch.nn.Module:
    """Return the tuned model: the base with its adapter, or the fully tuned weights; fp32, eval mode.

    Virtual tokens are then keys and values that a plain model finds before each conversation; an adapter that was
    trained on a rounded base gets that base.
    """
    config = weights_folder / "adapter_config.json"
    if not config.exists():
        return load_whole(weights_folder)
    if not (weights_folder / ADAPTER_FILE).exists():
        raise ModelError("the adapter has no safetensors file", where={"folder": weights_folder})
    told = read_json(config)
    kind = told.get("peft_type")
    if kind not in KNOWN:
        raise ModelError("this kind of adapter is not known", where={"file": config}, why=f"it is {kind}")
    if told.get("auto_mapping"):
        raise ModelError("this adapter needs code from its repository, which never runs", where={"file": config})
    base = load_base(base_folder, weights_folder)
    if kind == BottleneckSpec.traits.peft_type:
        return load_bottlenecks(base, weights_folder).eval()
    round_base(base, weights_folder)
    tuned = load_peft(base, weights_folder)
    return with_soft_prompt(tuned).eval() if tuned.active_peft_config.is_prompt_learning else tuned


def load_peft(base: PreTrainedModel, folder: Path, *, name: str = "default") -> PeftModel:
    """Return a base with an adapter in PEFT's format, eval mode; ModelError where they do not belong together."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return PeftModel.from_pretrained(base, str(folder), adapter_name=name).eval()
    except torch.OutOfMemoryError:
        raise
    except LOAD_ERRORS as error:
        raise ModelError("the adapter cannot be loaded", where={"folder": folder}, why=first_line(error)) from error


def merge(model: torch.nn.Module) -> PreTrainedModel:
    """Return a plain model with the updates added into the weights, in full precision; ModelError where none can be."""
    if why := why_unmergeable(model):
        hint = "export it as `adapter`, or train with `adapter: lora`"
        raise ModelError("this adapter cannot be added into the model's weights", why=why, hint=hint)
    if not isinstance(model, PeftModel):
        return model
    _put_whole_parts(model)
    return model.merge_and_unload()


def _put_whole_parts(model: PeftModel) -> None:
    """Put parts that trained whole in the place of what PEFT keeps them in: it only knows how to for single layers."""
    for name, part in list(model.named_modules()):
        if isinstance(part, ModulesToSaveWrapper):
            model.set_submodule(name, part.modules_to_save[part.active_adapters[0]])


def ready(model: torch.nn.Module) -> PreTrainedModel:
    """Return a plain model that answers as the tuned one: merged where that can be, else with its adapter inside."""
    return causal_lm(model) if why_unmergeable(model) else merge(model)


def why_unmergeable(model: torch.nn.Module) -> str:
    """Return why what was tuned cannot be added into the weights; empty where it can."""
    if soft_prompt(model) is not None:
        return BEFORE
    if any(isinstance(module, Bottleneck) for module in model.modules()):
        return BETWEEN
    if not isinstance(model, PeftModel):
        return ""
    if model.active_peft_config.is_prompt_learning:
        return BEFORE
    return WITHIN if model.active_peft_config.is_adaption_prompt else ""


def causal_lm(model: torch.nn.Module) -> PreTrainedModel:
    """Return the transformers model inside, with or without an adapter around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextlib.contextmanager
def adapter_off(model: torch.nn.Module) -> Iterator[None]:
    """Let a model be its base for a while."""
    switches = [part for part in model.modules() if isinstance(part, Bottleneck | SoftPrompt)]
    for switch in switches:
        switch.on = False
    try:
        with model.disable_adapter() if isinstance(model, PeftModel) else contextlib.nullcontext():
            yield
    finally:
        for switch in switches:
            switch.on = True


def parameters(model: torch.nn.Module) -> int:
    """Return how many weights a model has, those in 4 bits included."""
    packed = sum(part.in_features * part.out_features for part in model.modules() if isinstance(part, Nf4Linear))
    return packed + sum(weight.numel() for weight in model.parameters())
