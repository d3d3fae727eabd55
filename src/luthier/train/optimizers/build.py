"""Make the optimiser that a plan names, over groups of weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from luthier.train.optimizers.lion import Lion

if TYPE_CHECKING:
    from luthier.train.optimizers.spec import AdafactorSpec, LionSpec, MuonSpec, ScheduleFreeSpec, SgdSpec

Group = dict[str, Any]
Betas = tuple[float, float]
Kind = Callable[[list[Group], Betas], list[torch.optim.Optimizer]]
"""Takes groups of weights, each with its weight decay, and AdamW's betas; rates are set before each step."""


def adamw(groups: list[Group], betas: Betas) -> list[torch.optim.Optimizer]:
    """Return torch's AdamW, with one kernel per tensor where there is one."""
    fused = all(weight.device.type in ("cpu", "cuda") for group in groups for weight in group["params"])
    return [torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=fused)]


def adafactor(spec: "AdafactorSpec") -> Kind:
    """Return what makes torch's Adafactor."""
    return lambda groups, betas: [
        torch.optim.Adafactor(groups, lr=0.0, beta2_decay=spec.beta2_decay, d=spec.clip, foreach=False)
    ]


def lion(spec: "LionSpec") -> Kind:
    """Return what makes Lion."""
    return lambda groups, betas: [Lion(groups, lr=0.0, betas=spec.betas, weight_decay=0.0)]


def muon(spec: "MuonSpec") -> Kind:
    """Return what makes torch's Muon for the matrices between embedding and head, and AdamW for the rest."""

    def build(groups: list[Group], betas: Betas) -> list[torch.optim.Optimizer]:
        matrices = [group for group in groups if group["is_matrix"]]
        others = [group for group in groups if not group["is_matrix"]]
        made: list[torch.optim.Optimizer] = []
        if matrices:
            made.append(
                torch.optim.Muon(
                    matrices, lr=0.0, momentum=spec.momentum, nesterov=spec.nesterov, adjust_lr_fn="match_rms_adamw"
                )
            )
        return made + (adamw(others, betas) if others else [])

    return build


def sgd(spec: "SgdSpec") -> Kind:
    """Return what makes torch's SGD."""
    return lambda groups, betas: [torch.optim.SGD(groups, lr=0.0, momentum=spec.momentum, nesterov=spec.nesterov)]


def schedule_free(spec: "ScheduleFreeSpec") -> Kind:
    """Return what makes Schedule-Free AdamW; the warm-up is the loop's."""

    def build(groups: list[Group], betas: Betas) -> list[torch.optim.Optimizer]:
        from schedulefree import AdamWScheduleFree

        made = AdamWScheduleFree(groups, lr=0.0, betas=betas, weight_lr_power=spec.weight_rate_power, foreach=False)
        made.train()
        return [made]

    return build


def adamw_8bit(groups: list[Group], betas: Betas) -> list[torch.optim.Optimizer]:
    """Return bitsandbytes' AdamW."""
    from bitsandbytes.optim import AdamW8bit

    return [AdamW8bit(groups, lr=0.0, betas=betas)]
