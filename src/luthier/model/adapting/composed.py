"""One LoRA made of several of the same base, weighted, by PEFT."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from luthier.core.errors import ModelError
from luthier.model.adapter import load_peft
from luthier.model.adapting.by_peft import MISFITS, NAME
from luthier.model.load import LOAD_ERRORS, first_line, load_model


@dataclass(frozen=True)
class Composition:
    """How adapters become one."""

    weights: tuple[float, ...]
    how: str
    """PEFT's word."""
    density: float | None
    """Share of each update's values that is kept, in the ways that leave some out."""
    rank: int | None
    """Of the result, in the ways that find it anew; None is the largest of the adapters'."""
    seed: int


def compose(base: Path, adapters: Sequence[Path], asked: Composition, out: Path, *, base_model: str) -> int:
    """Write the composed adapter in PEFT's format into a folder, and return its rank."""
    names = [f"adapter{number}" for number in range(len(adapters))]
    tuned = load_peft(load_model(base), adapters[0], name=names[0])
    for name, folder in zip(names[1:], adapters[1:], strict=True):
        try:
            tuned.load_adapter(str(folder), adapter_name=name)
        except LOAD_ERRORS as error:
            raise ModelError("the adapter cannot be loaded", where={"folder": folder}, why=first_line(error)) from error
    _check_rank(tuned, asked.rank)
    lora: Any = tuned.base_model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        try:
            lora.add_weighted_adapter(
                names, list(asked.weights), NAME, asked.how, svd_rank=asked.rank, density=asked.density
            )
        except MISFITS as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = "take `--how cat` or `--how svd`, which take any ranks and layers"
            raise ModelError("these adapters cannot be composed so", why=why, hint=hint) from error
    config: Any = tuned.peft_config[NAME]
    # PEFT counts on a scale of 1, which is alpha / r, and takes all other options from the first adapter.
    config.use_rslora, config.base_model_name_or_path = False, base_model
    _check_finite(tuned)
    tuned.save_pretrained(str(out), selected_adapters=[NAME], save_embedding_layers=False)
    return int(config.r)


def _check_rank(tuned: PeftModel, rank: int | None) -> None:
    """Raise ModelError where a matrix has fewer rows or columns than the result is to have ranks."""
    least = min(min(part.weight.shape) for part in tuned.modules() if isinstance(part, LoraLayer))
    if rank is not None and rank > least:
        hint = f"set it to {least} at most"
        raise ModelError(f"an adapted matrix has only rank {least}", where={"option": "--rank"}, hint=hint)


def _check_finite(tuned: PeftModel) -> None:
    for name, weight in tuned.named_parameters():
        if name.endswith(f".{NAME}.weight") and not weight.isfinite().all():
            raise ModelError("the composed adapter is no number", where={"tensor": name}, hint="take other weights")
