"""Lion: the sign of a momentum, the same size of step for every weight (Chen et al. 2023, arXiv:2302.06675)."""

from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """Step by the sign of gradient and momentum mixed; the weight decay is decoupled."""

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            mixed, kept = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["exp_avg"] = torch.zeros_like(weight)
                momentum = state["exp_avg"]

                # What decides the step forgets faster than what is remembered.
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(momentum.lerp(weight.grad, 1 - mixed).sign_(), alpha=-group["lr"])
                momentum.lerp_(weight.grad, 1 - kept)
