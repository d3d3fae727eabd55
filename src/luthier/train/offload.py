"""Keep what the backward pass will need in the CPU's memory meanwhile."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch

Packed = tuple[torch.device, torch.Tensor]


class Offload:
    """Moves saved activations to the CPU and back; weights, which stay where they are anyway, are left."""

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        self.own = {weight.untyped_storage().data_ptr() for weight in weights}

    def __call__(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: torch.Tensor) -> Packed:
        if tensor.untyped_storage().data_ptr() in self.own:
            return tensor.device, tensor
        kept = torch.empty(tensor.size(), dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return tensor.device, kept.copy_(tensor.detach())

    @staticmethod
    def _unpack(packed: Packed) -> torch.Tensor:
        device, tensor = packed
        return tensor.to(device)
