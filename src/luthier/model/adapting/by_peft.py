"""Adapters through PEFT: one class for all of them, with the config that a Spec makes for a model."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from luthier.core.errors import ModelError

Configure = Callable[[PreTrainedModel], PeftConfig]
NAME = "default"
"""What PEFT calls the only adapter of a model."""
MISFITS = (ValueError, NotImplementedError)
"""What PEFT raises of a model that an adapter does not fit; anything else is a fault, and is seen as one."""


class ByPeft:
    """An adapter that PEFT attaches, saves and merges."""

    def __init__(self, configure: Configure) -> None:
        self.configure = configure

    def attach(self, model: PreTrainedModel, *, seed: int) -> PeftModel:
        """Freeze the base and add the adapter, drawn from `seed`."""
        config = self.configure(model)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            try:
                return get_peft_model(model, config)
            except MISFITS as error:
                why = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise ModelError(
                    "this adapter does not fit this model",
                    where={"field": "train.adapter", "model": type(model).__name__},
                    why=why,
                    hint="change its options, or take `adapter: lora`",
                ) from error

    def save(self, model: PeftModel, folder: Path, *, base_model: str) -> None:
        """Write PEFT's own format, naming the base as the recipe does."""
        for config in model.peft_config.values():
            config.base_model_name_or_path = base_model
        model.save_pretrained(str(folder), save_embedding_layers=False)
