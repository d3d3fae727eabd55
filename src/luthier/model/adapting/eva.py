"""EVA: a low-rank update begins with the directions in which a layer's inputs differ most (Paischer et al. 2024).

arXiv:2410.07170, with the same rank for each layer. PEFT's own walks over batches until its estimates stand still,
which need never happen; here the inputs' covariance is summed up over all rows and taken apart once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from luthier.model.adapting.by_peft import NAME
from luthier.model.headstep import batched

BATCH_TOKENS = 2048
"""Padded tokens computed at once."""


@dataclass
class _Inputs:
    """What layers have read: of their inputs' C channels the sum (C,), and of their products the sum (C, C)."""

    count: int = 0
    total: torch.Tensor | None = None
    products: torch.Tensor | None = None
    layers: list[LoraLayer] = field(default_factory=list)
    """All layers that read the same."""

    def add(self, read_NC: torch.Tensor) -> None:
        read = read_NC.detach().float()
        total, products = read.sum(dim=0), read.t() @ read
        self.total = total if self.total is None else self.total + total
        self.products = products if self.products is None else self.products + products
        self.count += len(read)

    def directions(self) -> torch.Tensor:
        """Return the orthonormal directions in which the inputs differ, the most first, (C, C)."""
        if self.total is None or self.products is None:
            raise RuntimeError("nothing was read")
        mean = (self.total / self.count).double()
        covariance = self.products.double() / self.count - torch.outer(mean, mean)
        return torch.linalg.eigh(covariance).eigenvectors.flip(1).t()


@torch.no_grad()
def begin_from_rows(model: PeftModel, rows: Sequence[Sequence[int]]) -> int:
    """Set each update's first matrix from what the untuned layers read of rows of token ids; return how many were set.

    The second matrix stays 0, and so the model what it was. A layer that no row reaches begins as LoRA does.
    """
    lm: PreTrainedModel = model.get_base_model()
    found, seen = _listen(lm), 0
    with found:
        for places in batched([len(row) for row in rows], BATCH_TOKENS):
            found.read([rows[place] for place in places])
    for inputs in found.inputs:
        if not inputs.count:
            continue
        directions = inputs.directions()
        for layer in inputs.layers:
            down = layer.lora_A[NAME].weight
            down.copy_(directions[: len(down)].to(down))
            seen += 1
    return seen


class _listen:
    """Hears what each layer with an update reads; layers that read one tensor are heard once."""

    def __init__(self, lm: PreTrainedModel) -> None:
        self.lm = lm
        self.inputs: list[_Inputs] = []
        self._of: dict[int, _Inputs] = {}
        self._last: tuple[torch.Tensor, _Inputs] | None = None
        self._mask = torch.zeros(0)

    def __enter__(self) -> "_listen":
        layers = [part for part in self.lm.modules() if isinstance(part, LoraLayer) and NAME in part.lora_A]
        self._hooks = [layer.register_forward_pre_hook(self._heard) for layer in layers]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def read(self, rows: Sequence[Sequence[int]]) -> None:
        longest, device = max(map(len, rows)), self.lm.device
        ids, mask = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(2))
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(list(row)), 1
        self._mask, self._last = mask.bool().to(device), None
        self.lm.base_model(input_ids=ids.to(device), attention_mask=mask.to(device))

    def _heard(self, layer: LoraLayer, given: tuple[torch.Tensor, ...]) -> None:
        read = given[0]
        if self._last is not None and self._last[0] is read:
            if id(layer) not in self._of:
                self._of[id(layer)] = self._last[1]
                self._last[1].layers.append(layer)
            return
        if id(layer) not in self._of:
            self._of[id(layer)] = _Inputs(layers=[layer])
            self.inputs.append(self._of[id(layer)])
        self._last = read, self._of[id(layer)]
        if read.shape[:-1] == self._mask.shape:
            self._of[id(layer)].add(read[self._mask])
