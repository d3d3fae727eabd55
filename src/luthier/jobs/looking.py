"""Before a run: check and preview data, and write a first recipe for it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.core.artifacts import Base
from luthier.core.events import Emit
from luthier.core.yaml import Where, write_yaml
from luthier.jobs.facts import data_of
from luthier.jobs.plan import leaves, replaced, value_at, written_paths
from luthier.jobs.prepare import settle
from luthier.jobs.rooms import Rooms, real_rooms
from luthier.recipe import Plan, Recipe
from luthier.train.methods.seq2seq.spec import Seq2SeqSpec
from luthier.train.spec import method_for

if TYPE_CHECKING:
    from luthier.data.check import DataCheck
    from luthier.data.preview import PreviewRow
    from luthier.data.rows import RowIssue

HEAD = """\
# A recipe for Luthier: how to tune {base} on {data}.
#
# `luthier data check {data}` says what is in the rows and what is wrong with them;
# `luthier run {recipe}` tunes, measures and exports.
#
# {seen}
# What is not written here has a default (`luthier show recipe`); `auto` is resolved in the run's plan.yaml.

"""
# The fields a first recipe shows: those a person is most likely to change.
SHOWN = (
    "base_model",
    "data.path",
    "data.format",
    "data.split.validation",
    "data.split.test",
    "train.method.name",
    "train.method.beta",
    "train.method.loss",
    "train.adapter.name",
    "train.adapter.r",
    "train.epochs",
    "train.batch_size",
    "train.learning_rate",
    "evaluate.baselines",
    "evaluate.metrics",
    "export",
    "seed",
)
COMMENTS = {
    "base_model": "the embedded smollm2-135m-instruct, a hub id, a folder, or a .gguf file",
    "data.path": "counted from this file's folder",
    "data.split.validation": "share of rows that watch training",
    "data.split.test": "share of rows that measure the result; training never sees them",
    "train.method.beta": "larger stays nearer to the base model",
    "train.adapter.name": "or full: all weights",
    "train.adapter.r": "rank of the update; more can hold more",
    "train.epochs": "passes over the rows; or `steps`",
    "evaluate.baselines": "what the tuned model has to beat",
    "export": "one model that any safetensors reader loads; or adapter, onnx-int8, gguf-q8_0, …",
}


def check_data(recipe: Recipe, emit: Emit) -> "DataCheck":
    """Check the rows that a recipe names, as the model will see them."""
    from luthier.data.room import check
    from luthier.model.base import resolve_base

    base = resolve_base(recipe.base_model, emit)
    return check(data_of(with_fitting_method(recipe, base), base), base, emit, seed=recipe.seed)


def preview_data(recipe: Recipe, emit: Emit, *, rows: int) -> "list[PreviewRow | RowIssue]":
    """Return the first rows as the model will see them."""
    from luthier.data.preview import preview
    from luthier.model.base import resolve_base

    base = resolve_base(recipe.base_model, emit)
    return preview(data_of(with_fitting_method(recipe, base), base), base, rows=rows)


def first_recipe(recipe: Recipe, out: Path, emit: Emit, *, rooms: Rooms | None = None) -> str:
    """Return the text of a commented recipe with the values that suit the data, the model and this machine."""
    doors = rooms or real_rooms()
    base = doors.base(recipe.base_model, emit)
    recipe = with_fitting_method(recipe, base)
    plan = settle(recipe, base, doors, emit)
    shown = _shown(recipe, plan)
    value: dict[str, Any] = {}
    for path in shown:
        _put(value, path, value_at(plan, path))
    for name in ("path", "validation_path", "test_path"):
        if value["data"].get(name):
            value["data"][name] = _beside(value["data"][name], out)
    value["base_model"] = _beside(plan.base_model, out)
    text = write_yaml(value, _comments(plan, shown))
    data = " ".join(_names(value["data"]["path"]))
    return HEAD.format(base=base.title, data=data, recipe=out.name, seen=_seen(plan)) + text


def with_fitting_method(recipe: Recipe, base: Base | None = None) -> Recipe:
    """Return the recipe with the method that takes its rows, and can tune its base, unless it names one."""
    from luthier.data.opened import open_data

    if any(path.startswith("train.method.") for path in written_paths(recipe)):
        return recipe
    if base is not None and base.kind == "encoder-decoder":
        return replaced(recipe, "train.method", Seq2SeqSpec())
    data, encoder = recipe.data, base is not None and base.kind == "encoder"
    if encoder and data.render == "auto":
        data = data.model_copy(update={"render": "text"})
    return replaced(recipe, "train.method", method_for(open_data(data).format.name, encoder=encoder))


def _shown(recipe: Recipe, plan: Plan) -> list[str]:
    """Return the fields to write down: those a person is likely to change, and all that were set."""
    asked = set(written_paths(recipe))
    usual = [path for path in SHOWN if value_at(plan, path) is not None]
    return [path for path in leaves(plan) if path in asked or path in usual]


def _put(value: dict[str, Any], path: str, leaf: Any) -> None:
    *blocks, last = path.split(".")
    for block in blocks:
        value = value.setdefault(block, {})
    if isinstance(leaf, float) and leaf.is_integer():
        leaf = int(leaf)
    value[last] = list(leaf) if isinstance(leaf, tuple) else leaf


def _beside(path: str | tuple[str, ...], out: Path) -> str | list[str]:
    names = [_relative(entry, out.resolve().parent) for entry in _names(path)]
    return names[0] if isinstance(path, str) or len(names) == 1 else names


def _relative(entry: str, folder: Path) -> str:
    return Path(os.path.relpath(entry, folder)).as_posix() if Path(entry).is_absolute() else entry


def _names(path: str | tuple[str, ...] | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def _comments(plan: Plan, shown: list[str]) -> dict[Where, str]:
    reasons = {reason.path: reason.because for reason in plan.reasons if reason.source == "resolved"}
    return {tuple(path.split(".")): text for path, text in (COMMENTS | reasons).items() if path in shown}


def _seen(plan: Plan) -> str:
    reasons = {reason.path: reason.because for reason in plan.reasons}
    seen = [reasons.get(path, "").split("; ")[-1] for path in ("evaluate.metrics", "data.max_tokens")]
    return f"Seen in the data: {'; '.join(filter(None, seen)) or 'its format'}."
