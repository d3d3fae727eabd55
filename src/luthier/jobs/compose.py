"""`luthier compose`: one LoRA made of several, which is served, exported and talked to like any other."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel

from luthier.core.artifacts import Base
from luthier.core.errors import ModelError, RecipeError
from luthier.core.events import Emit, Event
from luthier.core.files import sha256_of, whole_folder, write_atomic
from luthier.core.runfolder import find_run
from luthier.core.settings import runs_dir
from luthier.jobs.pipeline import trained_of
from luthier.jobs.prepare import saved_plan

How = Literal[
    "cat", "svd", "linear", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd"
]
SPARSE = ("ties", "dare")
"""Beginnings of the ways that leave a part of each update out."""
ANEW = "svd"
"""End of the ways that find the result's rank anew."""
DENSITY = 0.5
SEED = 7
"""Of the ways that draw: the same adapters always give the same one."""
CONFIG, WEIGHTS, MADE_OF = "adapter_config.json", "adapter_model.safetensors", "made_of.json"


@dataclass(frozen=True)
class Asked:
    """What a person asks for."""

    adapters: tuple[str, ...]
    """Runs, or folders in PEFT's format."""
    out: Path
    weights: tuple[float, ...] | None = None
    """One for each adapter; None is 1 each."""
    how: str = "cat"
    density: float | None = None
    rank: int | None = None
    base: str | None = None
    """The base model; None is what the adapters name."""


class Composed(BaseModel):
    """What was made."""

    kind: Literal["composed"] = "composed"
    folder: Path
    rank: int
    how: str
    weights: list[float]
    adapters: list[str]
    base_model: str


def compose_adapters(asked: Asked, emit: Emit) -> Composed:
    """Write one adapter made of several into a new folder."""
    weights = _checked(asked)
    from luthier.model.adapting.composed import Composition, compose
    from luthier.model.base import resolve_base
    from luthier.serve.adapters import why_not_beside

    folders, bases = zip(*(_folder_and_base(name, emit) for name in asked.adapters), strict=True)
    for name, folder in zip(asked.adapters, folders, strict=True):
        if why := why_not_beside(folder):
            hint = "only plain LoRA can be composed; merge the others and export them by themselves"
            raise ModelError(f"`{name}` is no plain LoRA", where={"adapter": folder}, why=why, hint=hint)
    named = asked.base or _named_base(asked.adapters, folders, bases)
    model = resolve_base(named, emit)
    if model.kind == "encoder-decoder":
        raise ModelError("adapters of encoder-decoders are not composed", where={"model": model.title})
    for name, other in zip(asked.adapters, bases, strict=True):
        if other is not None and other.weights_sha256 != model.weights_sha256:
            why = f"`{name}` was trained on `{other.title}`, not on `{model.title}`"
            raise ModelError("these adapters are not of one base", why=why, hint="compose adapters of the same base")

    emit(Event(room="export", kind="progress", message=f"composing {len(folders)} adapters by {asked.how}"))
    density = (asked.density or DENSITY) if asked.how.startswith(SPARSE) else None
    composition = Composition(weights, asked.how, density, asked.rank, SEED)
    out = asked.out.absolute()
    with whole_folder(out) as folder:
        rank = compose(model.folder, folders, composition, folder, base_model=named)
        made = [
            {"name": Path(name).name, "weight": weight, "sha256": sha256_of(place / WEIGHTS)}
            for name, weight, place in zip(asked.adapters, weights, folders, strict=True)
        ]
        told = {"how": asked.how, "density": density, "rank": rank, "seed": SEED, "made_of": made}
        write_atomic(folder / MADE_OF, json.dumps(told, indent=2) + "\n")
    return Composed(
        folder=out, rank=rank, how=asked.how, weights=list(weights), adapters=list(asked.adapters), base_model=named
    )


def _named_base(names: Sequence[str], folders: Sequence[Path], bases: Sequence[Base | None]) -> str:
    """Return the one base that the adapters' own files name; those of runs are compared by their weights later."""
    told = {
        name: json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
        for name, folder in zip(names, folders, strict=True)
    }
    found = {name: base for name, base in told.items() if base}
    if not found:
        hint = "name it with `--base`"
        raise ModelError("the adapters do not say of which base they are", where={"adapter": folders[0]}, hint=hint)
    loose = {base for name, of_run in zip(names, bases, strict=True) if of_run is None and (base := told[name])}
    if len(loose | {next(iter(found.values()))}) > 1:
        why = ", ".join(f"`{name}` names `{base}`" for name, base in found.items())
        hint = "compose adapters of the same base; if these names mean one model, say which with `--base`"
        raise ModelError("these adapters are not of one base", why=why, hint=hint)
    return str(next(iter(found.values())))


def _checked(asked: Asked) -> tuple[float, ...]:
    """Refuse before any work what cannot be, and return the weights."""
    weights = asked.weights or tuple(1.0 for _ in asked.adapters)
    wrong = {
        f"there is no way `{asked.how}` to compose": asked.how not in get_args(How),
        f"there are {len(weights)} weights for {len(asked.adapters)} adapters": len(weights) != len(asked.adapters),
        "the weights must be finite, and not all 0": not any(weights) or not all(map(math.isfinite, weights)),
        "composing takes two adapters or more": len(asked.adapters) < 2,
        f"`--density` means nothing to `{asked.how}`": asked.density is not None and not asked.how.startswith(SPARSE),
        "`--density` is above 0 and at most 1": asked.density is not None and not 0 < asked.density <= 1,
        f"`--rank` means nothing to `{asked.how}`": asked.rank is not None and not asked.how.endswith(ANEW),
        "`--rank` is at least 1": asked.rank is not None and asked.rank < 1,
        f"there is something at {asked.out} already": asked.out.exists(),
    }
    if what := next((what for what, is_wrong in wrong.items() if is_wrong), None):
        hint = f"`luthier compose A B --how {'|'.join(get_args(How))} --weights 0.7,0.3 --out DIR`"
        raise RecipeError(what, hint=hint)
    return weights


def _folder_and_base(text: str, emit: Emit) -> tuple[Path, Base | None]:
    """Return an adapter's folder and, of a run, the base it was trained on."""
    path = Path(text).expanduser()
    if (path / CONFIG).is_file():
        return path.absolute(), None
    from luthier.model.base import resolve_base

    folder = find_run(text, runs_dir())
    trained = trained_of(folder, resolve_base(saved_plan(folder).base_model, emit))
    if not (trained.weights / CONFIG).is_file():
        what, hint = f"the run `{text}` has no adapter", "compose runs that trained a LoRA"
        raise ModelError(what, where={"run": folder.path}, why=f"it trained `{trained.adapter}`", hint=hint)
    return trained.weights, trained.prepared.base


def weights_of(text: str | None) -> tuple[float, ...] | None:
    """Return the weights in a text such as `0.7,0.3`."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError("these are no weights", where={"--weights": text}, hint="for example 0.7,0.3") from None
