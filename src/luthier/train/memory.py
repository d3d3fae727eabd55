"""How much memory a step needs, measured on the model itself."""

import torch

from luthier.examples.store import Encoded
from luthier.model.bitext import joined
from luthier.model.headstep import HeadStep
from luthier.model.seq2seq import Seq2SeqStep
from luthier.model.step import StepModel
from luthier.model.vectors import VectorStep

PROBE_TOKENS = 64


def activation_bytes_per_token(step: StepModel, *, vocabulary: int) -> float:
    """Return the bytes that autograd keeps for backward, per token, counted in one forward pass of random tokens."""
    ids = torch.randint(0, vocabulary, (PROBE_TOKENS + 1,), generator=torch.Generator().manual_seed(0)).tolist()
    row = Encoded(ids, [False] * PROBE_TOKENS + [True], PROBE_TOKENS, words=(0,))
    if isinstance(step, Seq2SeqStep):
        row = joined(ids[: PROBE_TOKENS // 2], ids[PROBE_TOKENS // 2 : PROBE_TOKENS])
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {w.untyped_storage().data_ptr() for w in step.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        total = _priced(step, row)
    del total
    return sum(size for pointer, size in kept.items() if pointer not in weights) / PROBE_TOKENS


def _priced(step: StepModel, row: Encoded) -> torch.Tensor:
    if isinstance(step, HeadStep):
        return step.logits([row]).sum()
    return step.vectors([row]).sum() if isinstance(step, VectorStep) else step.target_loss([row]).total
