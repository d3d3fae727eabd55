"""A recipe in the making, from another program's options: what was set, what was answered, what is refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.core.describe import field_rows
from luthier.core.errors import RecipeError
from luthier.core.yaml import Where, write_yaml
from luthier.jobs.plan import value_at, written_paths
from luthier.recipe import Recipe
from luthier.recipe_io.explain import closest
from luthier.recipe_io.read import recipe_from

Place = Callable[[str], dict[str, object]]
"""Where an option stands, for an error: its name on the command line, or file and line."""


@dataclass(frozen=True)
class Translated:
    """Another program's options as a recipe, and what was said of those that are not in it."""

    recipe: Recipe
    remarks: tuple[str, ...]


@dataclass
class Draft:
    """Collects values by their paths in a recipe, remarks, and refusals."""

    place: Place
    values: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    refusals: list[RecipeError] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """The option that set a path."""

    def set(self, path: str, value: Any, name: str) -> None:
        """Put a value into the recipe; two options that set the same must agree."""
        if path in self.values and self.values[path] != value:
            self.refuse(name, f"`{self.names[path]}` sets the same otherwise", "keep one of them")
            return
        self.values[path], self.names[path] = value, name

    def answer(self, name: str, words: str) -> None:
        """Say what an option comes to that is no value of the recipe."""
        self.remarks.append(f"{name}: {words}")

    def refuse(self, name: str, why: str, hint: str | None = None) -> None:
        """Remember that an option cannot be translated."""
        self.refusals.append(RecipeError(f"`{name}` cannot be translated", where=self.place(name), why=why, hint=hint))

    def text(self, value: Any, name: str) -> str | None:
        """Return a text, or None where there is none, or after refusing what is none."""
        if value is None or isinstance(value, str):
            return value
        self.refuse(name, f"`{value}` is no text", "write a text")
        return None

    def texts(self, value: Any, name: str) -> list[str]:
        """Return a list of texts, or a single one as a list of one; nothing after refusing what is neither."""
        found = [value] if isinstance(value, str) else value
        if found is None or (isinstance(found, list | tuple) and all(isinstance(one, str) for one in found)):
            return list(found or ())
        self.refuse(name, f"`{value}` is no list of texts", "write a text, or a list of texts")
        return []

    def block(self, value: Any, name: str) -> dict[str, Any]:
        """Return a block with keys, empty where there is none, or after refusing what is none."""
        if value is None:
            return {}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return dict(value)
        self.refuse(name, "it is no block with names as keys", "write `name: value` lines under it")
        return {}

    def unknown(self, name: str, known: Sequence[str]) -> None:
        """Refuse a name that nobody knows."""
        close = closest(name, list(known))
        self.refuse(name, "it is not known here", f"did you mean `{close}`?" if close else "leave it out")

    def recipe(self, overrides: Sequence[str] = ()) -> Translated:
        """Return the recipe, or raise the first refusal with the names of the others."""
        if self.refusals:
            raise self._first_refusal()
        value: dict[str, Any] = {}
        for path, leaf in self.values.items():
            put(value, path, leaf)
        try:
            return Translated(recipe_from(value, overrides), tuple(self.remarks))
        except RecipeError as error:
            raise self._told_in_their_words(error) from error

    def _first_refusal(self) -> RecipeError:
        first, *others = self.refusals
        if not others:
            return first
        also = "; ".join(f"{error.what}: {error.why}" for error in others)
        return RecipeError(first.what, where=first.where | {"also": also}, why=first.why, hint=first.hint)

    def _told_in_their_words(self, error: RecipeError) -> RecipeError:
        path = error.where.get("field", "")
        name = self.names.get(path)
        if name is None:
            return error
        where = self.place(name) | {"recipe": path}
        return RecipeError(f"`{name}`: {error.what}", where=where, why=error.why, hint=error.hint)


def as_text(recipe: Recipe) -> str:
    """Return a recipe as YAML, with only what was set."""
    value: dict[str, Any] = {}
    for path in written_paths(recipe):
        leaf = value_at(recipe, path)
        put(value, path, list(leaf) if isinstance(leaf, tuple) else leaf)
    return write_yaml(value)


def put(value: dict[str, Any], path: str, leaf: Any) -> None:
    """Put a leaf at a dotted path."""
    *blocks, last = path.split(".")
    for block in blocks:
        value = value.setdefault(block, {})
    value[last] = leaf


def knows(path: str) -> bool:
    """Tell whether a recipe has this field."""
    return any(row.path == path for row in field_rows(Recipe))


def file_place(file: object, line_of: Callable[[Where], int | None], paths: Mapping[str, Where]) -> Place:
    """Return how to tell where in a file an option stands."""

    def place(name: str) -> dict[str, object]:
        path = paths.get(name, (name,))
        line = line_of(path)
        return {"file": f"{file}:{line}" if line else file, "field": ".".join(map(str, path))}

    return place
