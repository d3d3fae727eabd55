"""Guards against failures that leave the loss looking normal."""

from collections.abc import Sequence

import torch

from luthier.core.errors import TrainingError
from luthier.core.events import Emit, Event
from luthier.core.files import sha256_of_json
from luthier.examples.store import Encoded
from luthier.model.adapter import causal_lm
from luthier.model.seq2seq import plain_step
from luthier.model.step import Precision, StepModel, TargetLoss, at_rest
from luthier.train.methods.method import Method

FEW_TARGETS = 0.005
"""A smaller share of target tokens is hardly ever meant."""
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 1e-2}
"""Relative difference of losses that arithmetic alone may cause."""


class Fingerprint:
    """Checksums of all weights, taken before training and compared after it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.sums = {name: _checksum(weight) for name, weight in model.named_parameters()}
        self.trained = {name for name, weight in model.named_parameters() if weight.requires_grad}

    def check(self, model: torch.nn.Module) -> None:
        """Raise TrainingError unless every trained tensor moved and nothing else did."""
        moved = {name for name, weight in model.named_parameters() if _checksum(weight) != self.sums[name]}
        still, stray = sorted(self.trained - moved), sorted(moved - self.trained)
        if stray:
            raise TrainingError(
                "frozen weights have changed", where={"tensor": stray[0]}, why=f"{len(stray)} tensors in all"
            )
        if still:
            raise TrainingError(
                "weights that should train did not move",
                where={"tensor": still[0]},
                why=f"{len(still)} of {len(self.trained)} trained tensors",
                hint="check `train.adapter.target_modules`, and that the learning rate is not vanishing",
            )


def _checksum(weight: torch.Tensor) -> int:
    """Return the exact integer sum of a tensor's bits and of its bits weighted by place."""
    bits = weight.detach().contiguous().view(torch.uint8).flatten().to("cpu")
    words = bits[: len(bits) // 4 * 4].view(torch.int32).long()
    return int(words.sum()) * 31 + int((words[::7] * 3).sum())


def check_targets(target_tokens: int, total_tokens: int, emit: Emit) -> None:
    """Warn when the share of tokens that carry loss is hardly plausible."""
    share = target_tokens / max(total_tokens, 1)
    if share < FEW_TARGETS:
        message = f"only {share:.2%} of the training tokens carry loss; look at `luthier data preview`"
        emit(Event(room="train", kind="warning", message=message, data={"target_share": share}))


def untuned_loss(model: torch.nn.Module, rows: Sequence[Encoded], *, precision: Precision) -> float:
    """Return the plain loss per target token of a model that nothing was added to yet."""
    with torch.no_grad(), at_rest(model):
        return _mean(plain_step(model, precision=precision).target_loss(rows))


def check_first_loss(
    model: torch.nn.Module, step: StepModel, rows: Sequence[Encoded], *, precision: Precision, untuned: float | None
) -> str | None:
    """Return how the first loss differs from the one it must be, or None where they agree.

    A fresh adapter that begins as the base must change nothing, so both hold at once: the adapter is neutral, and the
    step computes what it should. Where `untuned` is None it begins as something else, and the plain step's loss with
    the adapter on decides.
    """
    lm = causal_lm(model)
    attention = lm.config._attn_implementation
    with torch.no_grad(), at_rest(model):
        ours = _mean(step.target_loss(rows))
        if untuned is None:
            lm.set_attn_implementation("sdpa")
            must, whose = _mean(plain_step(model, precision=precision).target_loss(rows)), "the plain step's"
            lm.set_attn_implementation(attention)
        else:
            must, whose = untuned, "the untuned model's"
    if not abs(ours - must) <= TOLERANCE[precision] * max(abs(must), 1.0):
        return f"first loss {ours:.6f}, {whose} {must:.6f}"
    return None


def _mean(loss: TargetLoss) -> float:
    return float(loss.total) / max(loss.tokens, 1)


def check_method(method: Method, step: StepModel, rows: Sequence[Encoded], precision: Precision) -> None:
    """Raise TrainingError unless the untuned model has the loss that the method begins with."""
    if method.first_loss is None:
        return
    with torch.no_grad(), at_rest(step.model):
        part = method(step, rows)
    found = float(part.loss) / part.units
    if not abs(found - method.first_loss) <= TOLERANCE[precision]:
        raise TrainingError("the first loss is not the method's", why=f"it is {found:.6f}, not {method.first_loss:.6f}")


def identity(*parts: object) -> str:
    """Return the hash that ties a checkpoint to its run."""
    return sha256_of_json([str(part) for part in parts])
