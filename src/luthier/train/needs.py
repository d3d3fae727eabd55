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
    if optimizer.needs_gpu:
        _check_gpu("train.optimizer", f"`{optimizer.name}`", "take `adamw` or `lion`")
    if spec.activation_offload:
        _check_gpu("train.activation_offload", "it", "set it to false; `train.gradient_checkpointing: true` saves more")


def _check_gpu(field: str, subject: str, hint: str) -> None:
    import torch

    if not torch.cuda.is_available():
        why = f"{subject} moves memory off a GPU, and there is none" if subject == "it" else f"{subject} needs a GPU"
        raise RecipeError(f"`{field}` is not for this machine", where={"field": field}, why=why, hint=hint)
