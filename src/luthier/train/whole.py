"""Losses of a whole batch, whose rows are compared with each other: gradients of micro-batches by cached vectors.

A loss that is no sum over rows cannot be added up over micro-batches. So all vectors are computed first, without
gradients; the loss of the whole batch gives each vector its gradient; and then each micro-batch is computed again and
hands its vectors' gradients on to the weights (Gao et al. 2021, arXiv:2101.06983). The result is that of one pass over
the whole batch; only where it does not fit into `micro_batch_tokens` is it computed twice.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, cast

import torch

from luthier.examples.store import Encoded
from luthier.model.step import StepModel
from luthier.train.methods.method import Method, Part

Groups = Sequence[Sequence[Encoded]]


class Whole(Protocol):
    """A method whose loss is of a whole batch."""

    def columns(self, model: StepModel, rows: Sequence[Encoded]) -> list[torch.Tensor]:
        """Return the vectors of the rows' texts, (R, D) each."""
        ...

    def of_columns(self, columns: Sequence[torch.Tensor], rows: Sequence[Encoded]) -> Part:
        """Return the loss of rows whose vectors are known, summed over rows."""
        ...


def whole_of(method: Method) -> Whole | None:
    """Return a method whose loss is of a whole batch as such; None of a loss that is a sum over rows."""
    return cast(Whole, method) if method.whole else None


def backward_whole(
    method: Whole,
    model: StepModel,
    groups: Groups,
    backward: Callable[[torch.Tensor], None],
    offload: Callable[[], AbstractContextManager[None]],
) -> Part:
    """Add the gradients of a batch in micro-batches and return its loss; `backward` takes the mean loss."""
    rows = [row for group in groups for row in group]
    if len(groups) == 1:
        with offload():
            part = method.of_columns(method.columns(model, rows), rows)
        backward(part.loss / len(rows))
        return part

    # What is drawn in the first pass, such as an adapter's dropout, is drawn again in the second.
    drawn, parts = [], []
    with torch.no_grad():
        for group in groups:
            drawn.append(_random_state())
            parts.append(method.columns(model, group))
    cached = [torch.cat(column).requires_grad_() for column in zip(*parts, strict=True)]
    part = method.of_columns(cached, rows)
    backward(part.loss / len(rows))

    after, sizes = _random_state(), [len(group) for group in groups]
    gradients = [(torch.zeros_like(one) if one.grad is None else one.grad).split(sizes) for one in cached]
    for number, group in enumerate(groups):
        _set_random_state(drawn[number])
        with offload():
            vectors = method.columns(model, group)
        torch.autograd.backward(vectors, [gradient[number] for gradient in gradients])
    _set_random_state(after)
    return part


def price_whole(method: Whole, model: StepModel, groups: Groups) -> Part:
    """Return the loss of a batch in micro-batches, without gradients."""
    parts = [method.columns(model, group) for group in groups]
    rows = [row for group in groups for row in group]
    return method.of_columns([torch.cat(column) for column in zip(*parts, strict=True)], rows)


def _random_state() -> list[torch.Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _set_random_state(state: list[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state_all(state[1:])
