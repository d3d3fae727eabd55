"""Read a space file, and hold every value in it against the recipe before the first trial."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from luthier.core.describe import field_rows
from luthier.core.errors import RecipeError
from luthier.core.spec import Spec
from luthier.core.yaml import Document, Where, read_yaml
from luthier.jobs.search.names import SHORT_NAMES, path_of
from luthier.jobs.search.space import KINDS, Dimension, Space
from luthier.jobs.search.strategy import COSTS, LOSS, Strategy
from luthier.recipe import Recipe
from luthier.recipe_io.explain import closest, known_path
from luthier.recipe_io.read import load_recipe
from luthier.score.names import MetricName

STRATEGY, ENTRIES = "search_strategy", "search_space"
PLACE = "train."
SPEED_ONLY = (
    "train.micro_batch_tokens",
    "train.gradient_checkpointing",
    "train.activation_offload",
    "train.fast_step",
    "train.compile",
)
"""Fields that change how fast and in how much memory a training goes, never its result."""
HINT = "for example `learning_rate: {type: float, low: 1e-5, high: 1e-3, log: true}`"
MOST_POINTS = 100_000


class SpaceFile:
    """A space file that knows the line of everything in it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.document: Document = read_yaml(file)
        except RecipeError as error:
            what = error.what.replace("the recipe", "the space file")
            raise RecipeError(what, where=error.where, why=error.why, hint=HINT) from error

    def refused(self, path: Where, what: str, why: str | None = None, hint: str | None = None) -> RecipeError:
        """Return an error that names file, line and field."""
        line = self.document.line_of(path)
        where = {"file": self.file} | ({"line": line} if line else {}) | ({"field": ".".join(map(str, path))})
        return RecipeError(what, where={k: v for k, v in where.items() if v != ""}, why=why, hint=hint)

    def spec(self, kind: type[Spec], value: Any, path: Where) -> Any:
        """Return a part of the file as its Spec."""
        if not isinstance(value, dict):
            names = ", ".join(f"`{name}`" for name in kind.model_fields)
            raise self.refused(path, f"`{path[-1]}` is not a block", f"it has keys: {names}", HINT)
        try:
            return kind.model_validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise self._invalid(error, kind, path) from error

    def _invalid(self, error: ValidationError, kind: type[Spec], path: Where) -> RecipeError:
        detail = error.errors(include_url=False)[0]
        place = tuple(part for part in detail["loc"] if isinstance(part, str | int))
        names = list(kind.model_fields)
        if detail["type"] == "extra_forbidden":
            close = closest(str(place[-1]), names)
            hint = f"did you mean `{close}`?" if close else f"there is {', '.join(f'`{name}`' for name in names)}"
            return self.refused((*path, *place), f"unknown key `{place[-1]}`", hint=hint)
        if detail["type"] == "missing":
            return self.refused((*path, *place), f"`{place[-1]}` is missing", hint=HINT)
        why = detail["msg"].removeprefix("Value error, ")
        return self.refused((*path, *place), f"`{(*path, *place)[-1]}` cannot be used", why)


def read_space(file: Path, changes: Mapping[str, Any] | None = None) -> tuple[SpaceFile, Space]:
    """Return the space in a file, its strategy changed by what the command line says."""
    read = SpaceFile(file)
    value = read.document.value
    if not isinstance(value, dict) or not value.get(ENTRIES):
        raise read.refused((ENTRIES,), f"the space file has no `{ENTRIES}`", "nothing says what to search", HINT)
    unknown = next((key for key in value if key not in (STRATEGY, ENTRIES)), None)
    if unknown:
        raise read.refused((unknown,), f"unknown key `{unknown}`", f"there is `{STRATEGY}` and `{ENTRIES}`")
    strategy = read.spec(Strategy, value.get(STRATEGY) or {}, (STRATEGY,))
    strategy = _changed(strategy, changes or {})
    if not isinstance(value[ENTRIES], dict):
        raise read.refused((ENTRIES,), f"`{ENTRIES}` is not a block", "it has a key for each value to search", HINT)
    dimensions = tuple(_dimension(read, key, entry) for key, entry in value[ENTRIES].items())
    space = Space(strategy, dimensions)
    _check_whole(read, space)
    return read, space


def _changed(strategy: Strategy, changes: Mapping[str, Any]) -> Strategy:
    try:
        return Strategy.model_validate(strategy.model_dump() | {k: v for k, v in changes.items() if v is not None})
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise RecipeError("these options do not go together", where={"option": ", ".join(changes)}, why=why) from error


def _dimension(read: SpaceFile, key: str, entry: Any) -> Dimension:
    place = (ENTRIES, key)
    path = path_of(key)
    _check_path(read, place, path)
    if not isinstance(entry, dict) or "type" not in entry:
        raise read.refused(
            place, f"`{key}` has no `type`", f"there is {', '.join(f'`{kind}`' for kind in KINDS)}", HINT
        )
    kind = KINDS.get(str(entry["type"]))
    if kind is None:
        close = closest(str(entry["type"]), list(KINDS))
        why = f"there is {', '.join(f'`{name}`' for name in KINDS)}"
        hint = f"did you mean `{close}`?" if close else HINT
        raise read.refused((*place, "type"), f"unknown type `{entry['type']}`", why, hint)
    return Dimension(key, path, read.spec(kind, entry, place))


def _check_path(read: SpaceFile, place: Where, path: str) -> None:
    """Refuse a path that the recipe does not have, or whose trials could not be compared."""
    try:
        known_path(path, path)
    except RecipeError as error:
        close = closest(path, [*SHORT_NAMES, *(row.path for row in field_rows(Recipe) if row.path.startswith(PLACE))])
        hint = f"did you mean `{close}`?" if close else "a path as in `--set`, such as `train.learning_rate`"
        raise read.refused(place, f"the recipe has no field `{path}`", hint=hint) from error
    if not path.startswith(PLACE):
        why = "trials are compared on the same validation rows of the same model, and this would change them"
        hint = f"search fields under `{PLACE[:-1]}`; for `{path}`, search once with each value"
        raise read.refused(place, f"`{path}` cannot be searched", why, hint)


def _check_whole(read: SpaceFile, space: Space) -> None:
    """Refuse what each entry allows alone but not together."""
    paths = [dimension.path for dimension in space.dimensions]
    for dimension in space.dimensions:
        place = (ENTRIES, dimension.key)
        if paths.count(dimension.path) > 1:
            raise read.refused(place, f"`{dimension.path}` is searched twice", hint="keep one of the two names")
        inner = next((path for path in paths if path.startswith(f"{dimension.path}.")), None)
        if inner:
            raise read.refused(place, f"`{dimension.path}` and its part `{inner}` are both searched")
        if dimension.path in SPEED_ONLY and "seconds" not in space.strategy.objectives:
            why = f"`{dimension.path}` changes speed and memory, never the result"
            raise read.refused(place, "there is nothing to find here", why, "add `seconds` to `objectives`")
    if space.strategy.type == "grid":
        _check_grid(read, space)
    if space.strategy.type == "cmaes" and sum(one.range.is_number for one in space.dimensions) < 2:
        why = "CMA-ES adapts several numbers at once, and there are fewer than two"
        raise read.refused((STRATEGY, "type"), "`cmaes` has nothing to adapt", why, "take `tpe`")


def _check_grid(read: SpaceFile, space: Space) -> None:
    for dimension in space.dimensions:
        if dimension.range.points() is None:
            why, hint = (
                f"between {dimension.range.ends[0]:g} and {dimension.range.ends[1]:g} are numbers without end",
                ("give a `step`, or a `choice` of `values`"),
            )
            raise read.refused((ENTRIES, dimension.key), "a grid needs single values", why, hint)
    points = space.points() or 0
    if points > MOST_POINTS:
        raise read.refused(
            (ENTRIES,), f"the grid has {points:,} points", f"at most {MOST_POINTS:,}", "use larger steps"
        )


def check_against(read: SpaceFile, space: Space, recipe: Path, overrides: Sequence[str]) -> None:
    """Raise the first reason why the recipe would refuse a value of the space."""
    base = load_recipe(recipe, overrides)
    _check_objectives(read, space, base)
    for dimension in space.dimensions:
        for value in dimension.range.ends:
            _check_values(read, [(dimension, value)], recipe, overrides)
    # Lengths given in two ways, and the like, show only together.
    for end in (0, -1):
        _check_values(read, [(one, one.range.ends[end]) for one in space.dimensions], recipe, overrides)


def _check_values(
    read: SpaceFile, values: Sequence[tuple[Dimension, Any]], recipe: Path, overrides: Sequence[str]
) -> None:
    try:
        load_recipe(recipe, [*overrides, *set_words({one.path: value for one, value in values})])
    except RecipeError as error:
        names = {one.path: one for one, _ in values}
        guilty = names.get(error.where.get("field", ""), values[0][0])
        what = f"the recipe refuses {', '.join(f'{one.key} = {json.dumps(value)}' for one, value in values)}"
        why = ": ".join(filter(None, (error.what, error.why)))
        raise read.refused((ENTRIES, guilty.key), what, why, error.hint) from error


def _check_objectives(read: SpaceFile, space: Space, recipe: Recipe) -> None:
    metrics = list(itertools.chain.from_iterable(get_args(part) or (part,) for part in get_args(MetricName)))
    metrics += [one.name for one in recipe.evaluate.user_metrics] if recipe.evaluate else []
    known = [LOSS, *COSTS, *metrics]
    for name in space.strategy.objectives:
        if name not in known:
            close = closest(name, known)
            hint = f"did you mean `{close}`?" if close else None
            raise read.refused(
                (STRATEGY, "objectives"), f"unknown objective `{name}`", f"there is {', '.join(known)}", hint
            )
        if name not in (LOSS, *COSTS) and recipe.evaluate is None:
            why, hint = "`evaluate: null` leaves the measurement out", f"take `{LOSS}`, or write an `evaluate:` block"
            raise read.refused((STRATEGY, "objectives"), f"`{name}` is not measured", why, hint)
    if not any(name not in COSTS for name in space.strategy.objectives):
        why = "the cheapest training is none at all"
        raise read.refused((STRATEGY, "objectives"), "no objective tells of quality", why, f"add `{LOSS}`")


def set_words(values: Mapping[str, Any]) -> list[str]:
    """Return values by path as `--set` takes them."""
    return [f"{path}={json.dumps(value)}" for path, value in values.items()]
