"""Which layers suffer most from few bits: each is rounded by itself, and the loss is measured."""

from typing import TYPE_CHECKING

from luthier.core.artifacts import Prepared
from luthier.core.events import Emit, Event
from luthier.jobs.export.source import Source

if TYPE_CHECKING:
    import torch

ROWS = 24
"""Training rows on which the loss is measured."""
HEAD = "head"


def sensitivity(source: Source, prepared: Prepared, emit: Emit, *, block_size: int = 32) -> dict[str, float]:
    """Return by how much the loss per token rises when one part alone is rounded to 4 bits, the worst part first.

    Parts are the decoder's layers, by number, and `head`, the output layer. Symmetric rounding to the nearest in blocks
    along the inputs, as int4 exports do.
    """
    import torch

    from luthier.examples.store import Split
    from luthier.model.adapter import causal_lm, load_tuned, merge
    from luthier.model.load import load_model
    from luthier.model.scoring import row_losses

    folder = source.base.folder
    model = causal_lm(merge(load_tuned(folder, source.weights)) if source.weights else load_model(folder))
    split = Split(prepared.split("train"))
    rows = [split.encoded(row) for row in range(min(ROWS, len(split)))]

    def loss() -> float:
        losses = row_losses(model, rows)
        return sum(one.total for one in losses) / max(sum(one.tokens for one in losses), 1)

    usual, risen = loss(), {}
    parts = _parts(model)
    for number, (name, weights) in enumerate(parts.items(), start=1):
        kept = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight in weights:
                weight.copy_(rounded(weight, block_size))
            risen[name] = loss() - usual
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
        told = {"done": number, "total": len(parts), "system": "4 bits", "task": "layers"}
        emit(Event(room="export", kind="progress", message=f"rounding part {name}", data=told))
    return dict(sorted(risen.items(), key=lambda item: -item[1]))


def _parts(model: "torch.nn.Module") -> "dict[str, list[torch.nn.Parameter]]":
    """Return the weight matrices of each decoder layer and of the output layer."""
    import torch

    from luthier.model.adapter import is_linear

    longest = max((list(one) for one in model.modules() if isinstance(one, torch.nn.ModuleList)), key=len)
    parts = {
        str(number): [one.weight for one in layer.modules() if is_linear(one)] for number, layer in enumerate(longest)
    }
    return {**parts, HEAD: [model.get_output_embeddings().weight]}


def rounded(weight: "torch.Tensor", block_size: int) -> "torch.Tensor":
    """Return a matrix (outputs, inputs) rounded to 4 bits, symmetric, with a scale for each block of inputs."""
    import torch

    outputs, inputs = weight.shape
    pad = -inputs % block_size
    blocks = torch.nn.functional.pad(weight, (0, pad)).reshape(outputs, -1, block_size)
    # -8 is used up to the sign of the largest value, as ONNX Runtime's quantiser does.
    largest = blocks.gather(-1, blocks.abs().argmax(dim=-1, keepdim=True))
    scale = largest / -8
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    whole = (blocks / scale).round().clamp(-8, 7) * scale
    return whole.reshape(outputs, -1)[:, :inputs]
