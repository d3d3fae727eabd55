"""What a training needs of this machine, asked before anything slow is begun."""

from importlib.util import find_spec

from luthier.core.errors import RecipeError
from luthier.train.spec import TrainSpec


def check_needs(spec: TrainSpec) -> None:
    """Refuse an option whose package or GPU is not here."""
    optimizer = spec.optimizer
    absent = [name for name in optimizer.packages if find_spec(name) is None]
    if absent:
        raise RecipeError(
            f"`{optimizer.name}` cannot run here",
            where={"field": "train.optimizer"},
            why=f"the package {', '.join(absent)} is not installed",
            hint="on a machine with a GPU `pip install 'luthier[bitsandbytes]'`, or take `adamw` or `lion`",
        )
    if optimizer.needs_gpu and not _has_gpu():
        raise RecipeError(
            f"`{optimizer.name}` cannot run here",
            where={"field": "train.optimizer"},
            why="it needs a GPU, and there is none",
            hint="take `adamw` or `lion`",
        )
    if spec.activation_offload and not _has_gpu():
        raise RecipeError(
            "activations cannot be moved to the CPU's memory: they are there",
            where={"field": "train.activation_offload"},
            why="this machine has no GPU",
            hint="set it to false; `train.gradient_checkpointing: true` keeps fewer of them",
        )


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
