"""A loss of the user's own: a class in a Python file, loaded, looked at and tried before anything is trained.

It is the user's code and does what it likes; it runs only because the recipe names it.
"""

import importlib.machinery
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import torch
from torch.nn.functional import normalize

from luthier.core.artifacts import VectorKind
from luthier.core.errors import LuthierError, RecipeError, TrainingError
from luthier.core.files import sha256_of
from luthier.train.methods.embed.losses import Columns, Price
from luthier.train.methods.embed.spec import LossFile

TAKES: dict[VectorKind, tuple[str, ...]] = {
    "match": ("anchor", "positive"),
    "triplet": ("anchor", "positive", "negative"),
    "likeness": ("output1", "output2", "label"),
}
"""What `forward` is given, in this order: vectors, (R, D) each, and a label of each row, (R,)."""
LABELS = {"label", "labels", "score", "scores", "target", "targets", "similarity", "y"}
TRIED_ROWS = 4
FAULTS = (Exception, SystemExit)
"""What a file of the user's own may raise."""


def own_loss(spec: LossFile, *, file: Path | None = None) -> Price:
    """Return the loss of a file, or of a copy of it; what goes wrong in it is told with the line in the user's file."""
    shown = spec.file
    spec = spec if file is None else spec.model_copy(update={"file": str(file)})
    module = _made(spec, shown)

    def price(columns: Columns, numbers: torch.Tensor) -> torch.Tensor:
        given = [*columns, numbers] if len(numbers) else columns
        loss = _asked(module.to(columns[0].device), given, file=spec.file, shown=shown)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            hint = "return the mean over the rows, a tensor with one number"
            raise TrainingError("the loss is not one number", where=_where(spec, shown), why=f"it is {got}", hint=hint)
        if torch.is_grad_enabled() and not loss.requires_grad:
            why = "it has no gradient with respect to the vectors"
            hint = "compute it from the vectors with torch, without `.item()` or `.detach()`"
            raise TrainingError("the loss teaches nothing", where=_where(spec, shown), why=why, hint=hint)
        return loss.reshape(())

    return price


def check_own_loss(spec: LossFile, kind: VectorKind, *, size: int) -> None:
    """Raise RecipeError unless the loss takes what such rows give, vectors of `size` numbers, and says one number."""
    module = _made(spec, spec.file)
    _check_signature(type(module), spec, kind)
    numbers = torch.tensor([0.0, 1.0] * (TRIED_ROWS // 2)) if kind == "likeness" else torch.zeros(0)
    texts = 3 if kind == "triplet" else 2
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            columns = [normalize(torch.randn(TRIED_ROWS, size), dim=-1).requires_grad_() for _ in range(texts)]
            own_loss(spec)(columns, numbers)
    except TrainingError as error:
        raise RecipeError(error.what, where=error.where, why=error.why, hint=error.hint) from error


def check_file(spec: LossFile) -> None:
    """Raise RecipeError unless the file is there, and is the one that a plan was made with."""
    where = {"field": "train.method.loss", "file": spec.file}
    if not Path(spec.file).is_file():
        raise RecipeError("there is no file for the loss", where=where, hint="a path counts from the recipe's folder")
    if spec.sha256 is not None and sha256_of(Path(spec.file)) != spec.sha256:
        why = "it is not the file that this plan was made with"
        hint = "restore the file, or start a new run from the recipe"
        raise RecipeError("the loss has changed", where=where, why=why, hint=hint)


class _Source(importlib.machinery.SourceFileLoader):
    """Reads Python source, and neither keeps nor uses compiled files beside it."""

    def path_stats(self, path: str) -> dict[str, object]:
        raise OSError(path)


def _made(spec: LossFile, shown: str) -> torch.nn.Module:
    """Return the loss, made with its options."""
    kind = getattr(_loaded(spec, shown), spec.class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        why = "there is no such class" if kind is None else "it is not a class of `torch.nn.Module`"
        what = f"the loss `{spec.class_name}` cannot be used"
        raise RecipeError(what, where=_where(spec, shown), why=why, hint="name a class of the file: `file.py:Class`")
    takes = inspect.signature(kind).parameters
    free = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    unknown = [] if free else [name for name in spec.options if name not in takes]
    absent = [name for name, one in takes.items() if _is_needed(one) and name not in spec.options]
    if unknown or absent:
        what = f"`{spec.class_name}` does not take `{unknown[0]}`" if unknown else f"it needs `{absent[0]}`"
        hint = f"it takes {', '.join(f'`{name}`' for name in takes) or 'nothing'}: write them into `loss.options`"
        where = _where(spec, shown) | {"field": "train.method.loss.options"}
        raise RecipeError("the loss cannot be made", where=where, why=what, hint=hint)
    try:
        module = kind(**spec.options)
    except FAULTS as error:
        _blame(error, RecipeError, "the loss cannot be made", file=spec.file, shown=shown)
    if any(True for _ in module.parameters()):
        why, hint = "they would not be trained, nor kept with the model", "write a loss without weights"
        raise RecipeError("the loss has weights of its own", where=_where(spec, shown), why=why, hint=hint)
    return module


def _loaded(spec: LossFile, shown: str) -> ModuleType:
    name = f"luthier_own_loss_{sha256_of(Path(spec.file))[:16]}"
    found = importlib.util.spec_from_file_location(name, spec.file, loader=_Source(name, spec.file))
    if found is None or found.loader is None:
        raise RecipeError("this is no Python file", where=_where(spec, shown))
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except FAULTS as error:
        del sys.modules[name]
        hint = "the file stands alone: it imports installed packages only" if isinstance(error, ImportError) else None
        _blame(error, RecipeError, "the file of the loss cannot be loaded", file=spec.file, shown=shown, hint=hint)
    return module


def _check_signature(kind: type[torch.nn.Module], spec: LossFile, kind_of_rows: VectorKind) -> None:
    needs = TAKES[kind_of_rows]
    parameters = list(inspect.signature(kind.forward).parameters.values())[1:]
    if _takes(parameters, needs, has_label="label" in needs):
        return
    told = ", ".join(str(one) for one in parameters)
    why = f"`forward` takes ({told}), and such rows give it ({', '.join(needs)}), in this order"
    hint = f"write `def forward(self, {', '.join(needs)})`"
    code = getattr(kind.forward, "__code__", None)
    where = {"field": "train.method.loss", "file": f"{spec.file}:{code.co_firstlineno}" if code else spec.file}
    raise RecipeError(f"the loss `{spec.class_name}` does not fit these rows", where=where, why=why, hint=hint)


def _takes(parameters: Sequence[inspect.Parameter], needs: Sequence[str], *, has_label: bool) -> bool:
    """Tell whether parameters take so many values by their places, the label last and nowhere else by its name."""
    if any(_is_needed(one) and one.kind is one.KEYWORD_ONLY for one in parameters):
        return False
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return True
    placed = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if not sum(map(_is_needed, placed)) <= len(needs) <= len(placed):
        return False
    named = [one.name in LABELS for one in placed[: len(needs)]]
    return named == [False] * (len(needs) - has_label) + [True] * has_label


def _is_needed(parameter: inspect.Parameter) -> bool:
    free = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not free


def _asked(module: Callable[..., object], given: Sequence[torch.Tensor], *, file: str, shown: str) -> object:
    try:
        return module(*given)
    except torch.OutOfMemoryError:
        raise
    except FAULTS as error:
        _blame(error, TrainingError, "the loss of your own failed", file=file, shown=shown)


def _blame(
    error: BaseException, kind: type[LuthierError], what: str, *, file: str, shown: str, hint: str | None = None
) -> NoReturn:
    """Raise an error that points at the last line of the user's file that it went through."""
    path = os.path.abspath(file)  # noqa: PTH100 (as the interpreter names it: links are not followed)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in (file, path)]
    line = frames[-1].lineno if frames else getattr(error, "lineno", None)
    why = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    where = {"file": f"{shown}:{line}" if line else shown}
    raise kind(what, where=where, why=why, hint=hint or "mend the file, and run again") from error


def _where(spec: LossFile, shown: str) -> dict[str, object]:
    return {"file": shown, "class": spec.class_name}
