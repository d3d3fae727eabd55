"""QLoRA: the base's linear layers in 4 bits, and LoRA beside them.

The adapter is plain LoRA, but what it was trained beside is the *rounded* base: a file beside it says how that was
made, and whoever loads it makes the same again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PreTrainedModel

from luthier.core.errors import ModelError
from luthier.model.adapters.qlora import ROUNDED_BASE, QloraSpec
from luthier.model.adapting.by_peft import NAME, ByPeft
from luthier.model.adapting.configs import targets, transposed
from luthier.model.adapting.layers import decoder_layers, is_asked
from luthier.model.adapting.lora import low_rank
from luthier.model.adapting.nf4 import Nf4Linear, rounded

Factors = tuple[torch.Tensor, torch.Tensor]
"""B and A of an update B A."""


class Rounding(BaseModel):
    """How a base was rounded."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: str = Field("nf4", pattern="^nf4$")
    block_size: int = Field(ge=2, le=4096, multiple_of=2)
    double: bool


class Qlora:
    """Low-rank updates beside layers in 4 bits."""

    def __init__(self, spec: QloraSpec) -> None:
        self.spec, self.rounding = spec, Rounding(block_size=spec.block_size, double=spec.double)
        self._peft = ByPeft(lambda model: low_rank(spec, model))

    def attach(self, model: PreTrainedModel, *, seed: int) -> PeftModel:
        """Pack the layers' weights one by one, freeze all, and add low-rank updates, drawn from `seed`."""
        if transposed(model):
            raise ModelError(
                "this adapter does not fit this model",
                where={"field": "train.adapter.name", "model": type(model).__name__},
                why="its layers keep their weights transposed",
                hint="take `adapter: lora`",
            )
        targets(self.spec.target_modules, model)
        lost: dict[str, Factors] = {}
        for name in [name for name, _ in _layers(model)]:
            layer = model.get_submodule(name)
            packed = Nf4Linear(layer, block_size=self.rounding.block_size, double=self.rounding.double)
            if self.spec.init == "loftq" and is_asked(name, self.spec.target_modules):
                lost[name] = _largest_part(layer.weight.detach() - packed.weight, rank=self.spec.r)
            model.set_submodule(name, packed)
        tuned = self._peft.attach(model, seed=seed)
        _begin_with(lost, tuned)
        return tuned

    def save(self, model: PeftModel, folder: Path, *, base_model: str) -> None:
        """Write PEFT's own format, and how the base was rounded."""
        self._peft.save(model, folder, base_model=base_model)
        (folder / ROUNDED_BASE).write_text(self.rounding.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _largest_part(lost: torch.Tensor, *, rank: int) -> Factors:
    """Return B (outputs, r) and A (r, inputs) whose product is the nearest to a matrix; r is its own rank at most."""
    left, sizes, right = torch.linalg.svd(lost.float(), full_matrices=False)
    roots = sizes[:rank].sqrt()
    return left[:, :rank] * roots, roots[:, None] * right[:rank]


@torch.no_grad()
def _begin_with(lost: dict[str, Factors], tuned: PeftModel) -> None:
    """Let updates begin as what rounding lost, so that base and update together are nearer to the base as it was.

    The base stays the plain rounded one (LoftQ with one round), and so whoever loads the adapter can make it again.
    """
    layers = dict(tuned.get_base_model().named_modules())
    for name, (up, down) in lost.items():
        layer = layers[name]
        rank = len(down)
        layer.lora_A[NAME].weight[:rank] = down
        layer.lora_B[NAME].weight[:, :rank] = up / layer.scaling[NAME]


def round_base(model: PreTrainedModel, folder: Path) -> None:
    """Round a base in full precision as the one that an adapter was trained beside; nothing where it was not."""
    path = folder / ROUNDED_BASE
    if not path.exists():
        return
    try:
        rounding = Rounding.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise ModelError("how the base was rounded cannot be read", where={"file": path}, why=str(error)) from error
    with torch.no_grad():
        for _, layer in _layers(model):
            layer.weight.copy_(rounded(layer.weight, block_size=rounding.block_size, double=rounding.double))


def _layers(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Linear]]:
    """Yield the linear layers of the decoder's layers; embeddings, norms and the output layer stay as they are."""
    layers = decoder_layers(model)
    prefix = next(name for name, module in model.named_modules() if module is layers)
    for name, module in list(layers.named_modules()):
        if type(module) is torch.nn.Linear:
            yield f"{prefix}.{name}", module
