"""What a model is made of, by the names that an adapter may ask for."""

from collections.abc import Iterable, Sequence

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.core.errors import ModelError
from luthier.core.spec import Auto


def is_linear(module: torch.nn.Module) -> bool:
    """Tell whether a module is a matrix product (torch's or GPT-2's transposed one)."""
    return isinstance(module, torch.nn.Linear | Conv1D)


def decoder_layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    """Return the model's layers, which are its longest list of modules."""
    return max((part for part in model.modules() if isinstance(part, torch.nn.ModuleList)), key=len)


def check_names(names: Iterable[str], model: PreTrainedModel, *, field: str, linear: bool = True) -> None:
    """Raise ModelError unless each name is the end of the name of one of the model's layers."""
    parts = [name for name, part in model.named_modules() if name and (is_linear(part) or not linear)]
    unknown = [name for name in names if not any(part == name or part.endswith(f".{name}") for part in parts)]
    if unknown:
        kind = "linear layers" if linear else "parts"
        known = sorted({part.rsplit(".", 1)[-1] for part in parts} - {str(number) for number in range(1000)})
        raise ModelError(
            f"this model has no layer called {', '.join(unknown)}",
            where={"field": f"train.adapter.{field}"},
            hint=f"its {kind} are {', '.join(known)}",
        )


def is_asked(name: str, asked: Auto | tuple[str, ...]) -> bool:
    """Tell whether a layer of this name is among those asked for."""
    return asked == "auto" or any(name == one or name.endswith(f".{one}") for one in asked)


def check_untied(names: Sequence[str], model: PreTrainedModel, *, field: str) -> None:
    """Raise ModelError where a name means embeddings and output layer in one: to change one would change both."""
    head, words = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not words.weight:
        return
    tied = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if part is head or part is words}
    if asked := [name for name in names if name.rsplit(".", 1)[-1] in tied]:
        raise ModelError(
            f"{asked[0]} cannot be tuned by itself",
            where={"field": f"train.adapter.{field}"},
            why="this model's embeddings and output layer are one tensor",
            hint="leave it out, or train with `adapter: full` or `adapter: {name: freeze, head: true}`",
        )
