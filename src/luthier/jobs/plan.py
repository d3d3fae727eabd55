"""From a recipe to its plan: every open field gets a value, and every value says where it comes from."""

from collections.abc import Iterator
from typing import Any, TypeVar

from luthier.advise.facts import Facts
from luthier.advise.rules import RULES
from luthier.core.spec import Spec
from luthier.core.yaml import Where
from luthier.recipe import Plan, Reason, Recipe
from luthier.recipe_io.read import recipe_yaml

COMMENT_LENGTH = 100
S = TypeVar("S", bound=Spec)


def is_open(recipe: Recipe, path: str) -> bool:
    """Tell whether a rule has to fill this field."""
    if path == "train.epochs":
        return recipe.train.epochs is None and recipe.train.steps is None
    if path == "train.checkpoint_every":
        return recipe.train.checkpoint_every is None
    return value_at(recipe, path) == "auto"


def open_fields(recipe: Recipe) -> list[str]:
    """Return the fields that still wait for a value, in the order of the rules."""
    return [path for path in RULES if is_open(recipe, path)]


def resolve(recipe: Recipe, facts: Facts) -> Plan:
    """Ask the rules for every open field and return the plan."""
    said: dict[str, Reason] = {}
    for path in RULES:
        if is_open(recipe, path):
            advice = RULES[path](recipe, facts)
            recipe = replaced(recipe, path, advice.value)
            said[path] = Reason(path=path, source="resolved", because=advice.because)
    return as_plan(recipe, said)


def as_plan(recipe: Recipe, said: dict[str, Reason]) -> Plan:
    """Return the recipe with a reason for each value: what the rules said, what an earlier plan says, or who set it."""
    earlier = {reason.path: reason for reason in recipe.reasons} if isinstance(recipe, Plan) else {}
    said, written = earlier | said, set(written_paths(recipe))
    values = recipe.model_dump(exclude={"reasons"})
    reasons = tuple(said.get(path) or _reason(path, written) for path in leaves(recipe))
    return Plan.model_validate(values | {"reasons": reasons})


def _reason(path: str, written: set[str]) -> Reason:
    return Reason(path=path, source="recipe" if path in written else "default")


def value_at(spec: Spec, path: str) -> Any:
    """Return the value at a dotted path, or None where the recipe has no such part."""
    value: Any = spec
    for part in path.split("."):
        value = getattr(value, part, None)
    return value


def replaced(spec: S, path: str, value: Any) -> S:
    """Return the recipe with one value changed."""
    head, _, rest = path.partition(".")
    inner = replaced(getattr(spec, head), rest, value) if rest else value
    return spec.model_copy(update={head: inner})


def leaves(spec: Spec, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all single values of a recipe."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, Spec):
            yield from leaves(value, f"{prefix}{name}.")
        elif name != "reasons":
            yield f"{prefix}{name}"


def written_paths(spec: Spec, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of the values that the recipe itself names."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if name not in spec.model_fields_set:
            continue
        if isinstance(value, Spec):
            yield from written_paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def plan_yaml(plan: Plan) -> str:
    """Return the plan as a recipe that runs again, with the reason of each resolved value beside it."""
    comments = {_where(reason.path): reason.because for reason in plan.reasons if reason.because}
    return recipe_yaml(plan, {path: _short(text) for path, text in comments.items()})


def _where(path: str) -> Where:
    return tuple(path.split("."))


def _short(text: str) -> str:
    return text if len(text) <= COMMENT_LENGTH else f"{text[: COMMENT_LENGTH - 1]}…"
