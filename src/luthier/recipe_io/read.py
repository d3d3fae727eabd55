"""Read a recipe file: YAML and `--set` values become a checked Recipe, or one error with its line."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from luthier.core.errors import RecipeError
from luthier.core.yaml import Document, Where, parse_yaml, read_yaml, write_yaml
from luthier.export.spec import form_of
from luthier.model.adapters.union import AdapterSpec
from luthier.recipe import Plan, Recipe
from luthier.recipe_io.explain import Problem, dotted, explain, known_path, located
from luthier.recipe_io.heads import head_problems
from luthier.recipe_io.paths import absolute_paths
from luthier.recipe_io.seq2seq import seq2seq_problems
from luthier.train.conflicts import conflicts

# A word in place of a block stands for the block that has only this key.
SHORT_FORMS: tuple[tuple[Where, str], ...] = (
    (("data",), "path"),
    (("train", "method"), "name"),
    (("train", "adapter"), "name"),
    (("train", "optimizer"), "name"),
    (("train", "schedule"), "name"),
)
OWN_LOSS = re.compile(r"(?P<file>.*\.py)(:(?P<kind>[^:/\\]*))?", re.DOTALL)
"""A loss of the user's own in short: a Python file and the class in it."""
# Options of a block without its name mean the default one.
DEFAULT_NAMES = {"method": "sft", "adapter": "lora", "optimizer": "adamw", "schedule": "cosine"}

TWO_LENGTHS = Problem(
    ("train", "steps"),
    "epochs and steps are both set",
    hint="keep one of them: epochs count passes over the data, steps count updates",
)
NOTHING_TO_WATCH = Problem(
    ("train", "early_stopping"),
    "early stopping has no validation rows to watch",
    hint="set `data.split.validation` to 0.1, or name `data.validation_path`",
)
NOTHING_TO_MEASURE = Problem(
    ("evaluate",),
    "there are no test rows to measure",
    hint="set `data.split.test` to 0.1, name `data.test_path`, or write `evaluate: null`",
)
NO_ADAPTER = Problem(
    ("export",),
    "there is no adapter to export: `full` and `freeze` train the model's own weights",
    hint="write `export: [merged]`, or train with `adapter: lora`",
)
NO_REFERENCE = Problem(
    ("train", "adapter"),
    "`dpo` needs an adapter that begins as the base, from which it measures, and this one begins as something drawn",
    hint="train with `adapter: lora`",
)
NO_RECOMPUTING = Problem(
    ("train", "gradient_checkpointing"),
    "prefix tuning cannot recompute activations: its keys and values are a cache, which recomputing leaves out",
    hint="leave `train.gradient_checkpointing` out, or train with `adapter: prompt_tuning`",
)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a file, changed by `a.b=value` words; a Plan where the file is one."""
    document = read_yaml(path)
    return _parsed(document, path, overrides)


def recipe_from(value: dict[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe that a mapping describes; paths in it count from here."""
    return _parsed(Document(value), Path("recipe"), overrides)


def _parsed(document: Document, path: Path, overrides: Sequence[str]) -> Recipe:
    value = document.value
    if not isinstance(value, dict):
        why = "it has no keys such as `data:` and `train:`"
        hint = "`luthier init --data FILE` writes a recipe"
        raise RecipeError("this is not a recipe", where={"file": path}, why=why, hint=hint)
    value = _long_forms(value)
    set_words: dict[Where, str] = {}
    for override in overrides:
        set_words[_override(value, override)] = override
        value = _long_forms(value)
    kind = Plan if "reasons" in value else Recipe
    if kind is Plan and set_words:
        value["reasons"] = _still_true(value["reasons"], set_words)
    value = absolute_paths(value, folder=path.resolve().parent, from_here=set(set_words))
    try:
        # Strict JSON takes a list for a tuple, but neither text for a number nor a word for true or false.
        recipe = kind.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise explain(error, kind, document=document, file=path, set_words=set_words) from error
    if problems := _contradictions(recipe):
        raise located(problems, document=document, file=path, set_words=set_words)
    return recipe


def _still_true(reasons: Any, set_words: dict[Where, str]) -> Any:
    """Drop the reasons of values that `--set` has replaced."""
    paths = {".".join(map(str, path)) for path in set_words}
    if not isinstance(reasons, list):
        return reasons
    return [reason for reason in reasons if not (isinstance(reason, dict) and reason.get("path") in paths)]


def _long_forms(value: dict[str, Any]) -> dict[str, Any]:
    for path, key in SHORT_FORMS:
        parent = _parent(value, path)
        if parent is not None and isinstance(parent.get(path[-1]), str | list):
            parent[path[-1]] = {key: parent[path[-1]]}
    train = value.get("train")
    for part, name in DEFAULT_NAMES.items():
        block = train.get(part) if isinstance(train, dict) else None
        if isinstance(block, dict):
            block.setdefault("name", name)
    _long_loss(train.get("method") if isinstance(train, dict) else None)
    if isinstance(value.get("export"), str):
        value["export"] = [value["export"]]
    return value


def _long_loss(method: Any) -> None:
    """Make a block of `file.py:Class`; other words are names of losses."""
    loss = method.get("loss") if isinstance(method, dict) else None
    if isinstance(loss, str) and (found := OWN_LOSS.fullmatch(loss)):
        method["loss"] = {"file": found["file"]} | ({"class_name": found["kind"]} if found["kind"] else {})


def _parent(value: dict[str, Any], path: Where) -> dict[str, Any] | None:
    for part in path[:-1]:
        inner = value.get(str(part))
        if not isinstance(inner, dict):
            return None
        value = inner
    return value


def _override(value: dict[str, Any], override: str) -> Where:
    """Put the value of `a.b=value` into the recipe and return its path."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        why = f"`{override}` has no `=`"
        raise RecipeError(
            "--set needs a path and a value", why=why, hint="for example `--set train.learning_rate=1e-4`"
        )
    path = known_path(dotted.strip(), override)
    for part in path[:-1]:
        if not isinstance(value.get(part), dict):
            value[part] = {}
        value = value[part]
    value[path[-1]] = parse_yaml(text, name=f"--set {override}").value
    return path


def check_recipe(recipe: Recipe) -> None:
    """Refuse what each field allows alone but not together."""
    for problem in _contradictions(recipe):
        raise RecipeError(problem.what, where={"field": dotted(problem.path)}, hint=problem.hint)


def _contradictions(recipe: Recipe) -> list[Problem]:
    train, data, split = recipe.train, recipe.data, recipe.data.split
    traits, forms = train.adapter.traits, {form_of(one).name for one in recipe.export}
    has_validation, has_test = data.validation_path or split.validation, data.test_path or split.test
    wrong = {
        TWO_LENGTHS: train.epochs is not None and train.steps is not None,
        NOTHING_TO_WATCH: train.early_stopping is not None and not has_validation,
        NOTHING_TO_MEASURE: recipe.evaluate is not None and not has_test,
        NO_ADAPTER: "adapter" in forms and traits.whole,
        NO_REFERENCE: train.method.takes_pairs and traits.start == "drawn",
        NO_RECOMPUTING: train.gradient_checkpointing is True and not traits.recomputes,
        _unmergeable(train.adapter): bool(traits.unmergeable and forms - {"adapter"}),
    }
    within = conflicts(train, has_validation=bool(has_validation))
    return [
        *(problem for problem, is_wrong in wrong.items() if is_wrong),
        *(Problem(one.field, one.what, hint=one.hint) for one in within),
        *head_problems(recipe),
        *seq2seq_problems(recipe),
    ]


def _unmergeable(adapter: AdapterSpec) -> Problem:
    return Problem(
        ("export",),
        f"`{adapter.name}` can be exported as `adapter` only: {adapter.traits.unmergeable}",
        hint="write `export: [adapter]`, or train with `adapter: lora`",
    )


def recipe_yaml(recipe: Recipe, comments: dict[Where, str] | None = None) -> str:
    """Return a recipe as YAML that `load_recipe` reads back to the same recipe."""
    value = recipe.model_dump(mode="json")
    if isinstance(recipe, Plan):
        value["reasons"] = [reason.model_dump(exclude_defaults=True) for reason in recipe.reasons]
    return write_yaml(value, comments)
