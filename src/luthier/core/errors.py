"""The errors a person meets: what happened, where, why, and what to do about it."""

from collections.abc import Mapping
from typing import ClassVar


class LuthierError(Exception):
    """A failure with an explanation; the command line prints it and exits with `exit_status`."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    usual_hint: ClassVar[str | None] = None
    """What to do where nothing better is known."""

    def __init__(
        self,
        what: str,
        *,
        where: Mapping[str, object] | None = None,
        why: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = {name: str(value) for name, value in (where or {}).items()}
        self.why = why
        self.hint = hint or self.usual_hint

    def __str__(self) -> str:
        """Render as a person reads it: one line each for what, where, why and the hint."""
        lines = [f"error: {self.what}"]
        lines += [f"  {name:<8}{value}" for name, value in self.where.items()]
        if self.why:
            lines.append(f"  {'why':<8}{self.why}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class RecipeError(LuthierError):
    """The recipe asks for something that does not exist or cannot be."""

    code = "bad_recipe"
    exit_status = 2


class DataError(LuthierError):
    """The data cannot be read, or cannot be used for what the recipe asks."""

    code = "bad_data"
    exit_status = 3


class ModelError(LuthierError):
    """The base model is missing, unsafe to load, or of an unknown kind."""

    code = "bad_model"
    exit_status = 4
    usual_hint = "fetch or make the model anew, or take another one"


class ResourceError(LuthierError):
    """The disk is full, a folder is read-only, or memory does not suffice."""

    code = "no_resource"
    exit_status = 6


class TrainingError(LuthierError):
    """Training cannot go on: a non-finite loss, or a tensor that did not move."""

    code = "training_failed"
    exit_status = 7
    usual_hint = "please report this, with the recipe and the name of the model"


class CheckpointError(LuthierError):
    """A checkpoint or a result does not match its manifest, or belongs to another run."""

    code = "bad_checkpoint"
    exit_status = 8


class Interrupted(LuthierError):
    """The user pressed Ctrl-C; what was done is kept."""

    code = "interrupted"
    exit_status = 130
