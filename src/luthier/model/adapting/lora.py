"""LoRA by PEFT, with what it may begin as; what is saved always fits the untouched base."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from luthier.core.errors import ModelError
from luthier.model.adapters.lora import BASE_CHANGING, MOVES_BASE, READS_ROWS, LoraSpec
from luthier.model.adapters.qlora import ROUNDED_BASE, QloraSpec
from luthier.model.adapting.by_peft import NAME, ByPeft
from luthier.model.adapting.configs import targets, transposed
from luthier.model.adapting.layers import check_names, check_untied, is_asked, is_linear
from luthier.model.headed import head_parts, task_of

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Tensors = dict[str, torch.Tensor]
DOWN, UP = "lora_A", "lora_B"


class Lora:
    """Low-rank updates; attach and save are PEFT's but for updates that took a part of the base."""

    def __init__(self, spec: LoraSpec) -> None:
        self.spec = spec
        self._peft = ByPeft(self._configure)
        self._begun: Tensors = {}
        """What the update began as, where the base has lost it."""

    def attach(self, model: PreTrainedModel, *, seed: int) -> PeftModel:
        """Freeze the base and add low-rank updates, drawn from `seed`, or as they are in a folder."""
        tuned = self._peft.attach(model, seed=seed)
        if self.spec.init in MOVES_BASE:
            found = get_peft_model_state_dict(tuned, save_embedding_layers=False)
            self._begun = {name: tensor.detach().cpu().clone() for name, tensor in found.items()}
        if self.spec.start_from is not None:
            _take_over(Path(self.spec.start_from), tuned)
        return tuned

    def save(self, model: PeftModel, folder: Path, *, base_model: str) -> None:
        """Write PEFT's own format, naming the base as the recipe does."""
        self._peft.save(model, folder, base_model=base_model)
        if self._begun:
            _on_the_untouched_base(folder, self._begun)

    def _configure(self, model: PreTrainedModel) -> LoraConfig:
        spec = self.spec
        for field in ("rank_pattern", "alpha_pattern"):
            check_names(getattr(spec, field), model, field=field)
        check_names(spec.modules_to_save, model, field="modules_to_save", linear=False)
        check_untied(spec.modules_to_save, model, field="modules_to_save")
        config = low_rank(spec, model)
        config.init_lora_weights = True if spec.init in ("default", *READS_ROWS) else spec.init
        config.use_rslora, config.use_dora = spec.rslora, spec.dora
        config.rank_pattern, config.alpha_pattern = dict(spec.rank_pattern), dict(spec.alpha_pattern)
        config.modules_to_save = [*spec.modules_to_save, *(config.modules_to_save or ())] or None
        if spec.init in (*MOVES_BASE, *READS_ROWS):
            _check_begins(spec, model)
        return config


def low_rank(spec: LoraSpec | QloraSpec, model: PreTrainedModel) -> LoraConfig:
    """Return the config of plain low-rank updates."""
    return LoraConfig(
        **task_of(model),
        r=spec.r,
        lora_alpha=2 * spec.r if spec.alpha == "auto" else spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=targets(spec.target_modules, model),
        fan_in_fan_out=transposed(model),
    )


def _check_begins(spec: LoraSpec, model: PreTrainedModel) -> None:
    """Raise ModelError where the update cannot begin as a part of the weights."""
    if spec.init == "olora" and transposed(model):
        raise ModelError(
            "`olora` does not fit this model",
            where={"field": "train.adapter.init", "model": type(model).__name__},
            why="its layers keep their weights transposed, which PEFT takes no notice of",
            hint="set it to `pissa`, or leave it out",
        )
    rank = max((spec.r, *spec.rank_pattern.values()))
    # A head is never updated by parts: it is trained whole.
    whole = {id(part) for top in head_parts(model).values() for part in top.modules()}
    layers = [
        part
        for name, part in model.named_modules()
        if is_linear(part) and id(part) not in whole and is_asked(name, spec.target_modules)
    ]
    least = min(min(part.weight.shape) for part in layers)
    if rank > least:
        raise ModelError(
            f"a layer of this model has only rank {least}",
            where={"field": "train.adapter.r"},
            why="the update begins with so many directions of each layer",
            hint=f"set it to {least} at most, or `train.adapter.init: default`",
        )


def _on_the_untouched_base(folder: Path, begun: Tensors) -> None:
    """Write W₀ + s (B A - B₀ A₀) as one update of rank 2 r: A over A₀, and B beside -B₀.

    Training moved W₀ - s B₀ A₀ + s B A, and W₀ is what others have. The scale stays s: alpha grows as r or its root.
    """
    found = load_file(folder / WEIGHTS)
    for name, tensor in found.items():
        if DOWN in name:
            found[name] = torch.cat([tensor, begun[name]], dim=0).contiguous()
        elif UP in name:
            found[name] = torch.cat([tensor, -begun[name]], dim=1).contiguous()
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    growth = 2**0.5 if config["use_rslora"] else 2
    config |= {
        "init_lora_weights": True,
        "r": 2 * config["r"],
        "lora_alpha": growth * config["lora_alpha"],
        "rank_pattern": {name: 2 * rank for name, rank in config["rank_pattern"].items()},
        "alpha_pattern": {name: growth * alpha for name, alpha in config["alpha_pattern"].items()},
    }
    save_file(found, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _take_over(folder: Path, tuned: PeftModel) -> None:
    """Put a saved adapter's weights in place of the fresh ones; ModelError unless it is made as the recipe says."""
    where: dict[str, object] = {"field": "train.adapter.start_from", "folder": folder}
    try:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        hint = f"name a folder with {CONFIG} and {WEIGHTS}"
        raise ModelError("the adapter to go on from cannot be read", where=where, why=str(error), hint=hint) from error
    if why := _on_another_base(folder, told):
        hint = "train anew from it on that base, or merge it there and take the merged model as `base_model`"
        raise ModelError("the adapter to go on from is of another base", where=where, why=why, hint=hint)
    ours = tuned.peft_config[NAME]
    for option, field in OPTIONS.items():
        theirs, own = told.get(option), getattr(ours, option)
        if (theirs or None) != (own or None):
            why = f"`{field}` is {theirs} there and {own} in the recipe"
            hint = f"set `train.adapter.{field}` to what it was made with"
            raise ModelError("the adapter to go on from is made otherwise", where=where, why=why, hint=hint)
    fresh = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    differing = [name for name in {**fresh, **found} if _shape(fresh, name) != _shape(found, name)]
    if differing:
        raise ModelError(
            "the adapter to go on from changes other layers",
            where=where,
            why=f"{sorted(differing)[0]} is {_shape(found, sorted(differing)[0])} there, and here "
            f"{_shape(fresh, sorted(differing)[0])}",
            hint="set `train.adapter.target_modules` to those it was made with; it must be of the same base",
        )
    set_peft_model_state_dict(tuned, found)


def _on_another_base(folder: Path, told: dict[str, Any]) -> str:
    """Return why an adapter does not stand on the base as it is; empty where it does."""
    if (folder / ROUNDED_BASE).exists():
        return "it was trained beside a base rounded to 4 bits"
    begun = str(told.get("init_lora_weights")).lower()
    return f"it began as `{begun}`, which changes the base's weights too" if begun.startswith(BASE_CHANGING) else ""


OPTIONS = {
    "peft_type": "name",
    "r": "r",
    "lora_alpha": "alpha",
    "use_rslora": "rslora",
    "use_dora": "dora",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
    "modules_to_save": "modules_to_save",
}
"""What decides an update's meaning: PEFT's word, and the recipe's."""


def _shape(tensors: Tensors, name: str) -> str:
    return " x ".join(map(str, tensors[name].shape)) if name in tensors else "missing"
