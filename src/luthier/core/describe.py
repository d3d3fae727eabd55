"""What a Spec's field takes, in words: errors, `luthier show` and the reference are drawn from this."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from luthier.core.spec import Spec

PLAIN: dict[Any, str] = {str: "text", bool: "`true` or `false`", type(None): "`null`"}
NUMBERS = {int: "a whole number", float: "a number"}
BOUNDS = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}


@dataclass(frozen=True)
class FieldRow:
    """One field of a Spec, for a table or a page."""

    path: str
    """Dotted path as in a recipe and after `--set`."""
    takes: str
    default: str
    meaning: str
    """The sentence under the field."""


def takes(field: FieldInfo) -> str:
    """Say what a field takes: "`auto` or a number above 0"."""
    return _takes(field.annotation, tuple(field.metadata))


def _takes(kind: Any, bounds: tuple[Any, ...] = ()) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _takes(inner[0], _bounds(inner[1:]))
    if origin is Literal:
        return _or([f"`{value}`" for value in inner])
    if origin in (Union, types.UnionType):
        return _or([_takes(part, bounds) for part in inner])
    if origin is tuple:
        return _takes_list(inner)
    if origin is dict:
        return f"names, each with {_takes(inner[1])}"
    if kind in NUMBERS:
        return " ".join([NUMBERS[kind], " and ".join(_bound_words(bounds))]).strip()
    if isinstance(kind, type) and issubclass(kind, Spec):
        return f"a block of {', '.join(f'`{name}`' for name in kind.model_fields)}"
    return PLAIN.get(kind, "a value")


def _takes_list(inner: tuple[Any, ...]) -> str:
    if len(inner) == 2 and inner[1] is Ellipsis:
        items = _takes(inner[0])
        return "a list of texts" if items == "text" else f"a list of {items}"
    return f"a list of {len(inner)} values, each {_takes(inner[0])}"


def _bounds(extras: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the limits inside `Annotated[...]`, where pydantic keeps them in a FieldInfo."""
    found: list[Any] = []
    for extra in extras:
        found += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    return tuple(found)


def _bound_words(bounds: tuple[Any, ...]) -> Iterator[str]:
    for bound in bounds:
        for name, word in BOUNDS.items():
            value = getattr(bound, name, None)
            if value is not None:
                yield f"{word} {value}"


def _or(words: list[str]) -> str:
    flat = [part for word in words for part in word.split(" or ")]
    return flat[0] if len(flat) == 1 else f"{', '.join(flat[:-1])} or {flat[-1]}"


def specs_of(kind: Any) -> list[type[Spec]]:
    """Return the Spec classes a field may hold: one for a block, several for a choice, none for a plain value."""
    if isinstance(kind, type) and issubclass(kind, Spec):
        return [kind]
    return [spec for part in get_args(kind) for spec in specs_of(part)]


def field_rows(spec: type[Spec], prefix: str = "") -> Iterator[FieldRow]:
    """Yield every field of a Spec and of the blocks inside it, in the order they are declared."""
    for name, field in spec.model_fields.items():
        path = f"{prefix}{name}"
        inner = specs_of(field.annotation)
        if not inner:
            yield FieldRow(path, takes(field), _default(field), field.description or "")
            continue
        yield FieldRow(path, _block_takes(inner, field), _default(field), field.description or "")
        for block in inner:
            yield from field_rows(block, f"{path}.")


def _block_takes(inner: list[type[Spec]], field: FieldInfo) -> str:
    null = ["`null`"] if type(None) in get_args(field.annotation) else []
    words = [f"`{name}`" for name in _names_of(field.annotation)]
    return _or(words + [tag_of(block) or "a block" for block in inner] + null)


def _names_of(kind: Any) -> list[str]:
    """Return the words that a field takes beside blocks."""
    if get_origin(kind) is Literal:
        return [str(name) for name in get_args(kind)]
    return [] if isinstance(kind, type) else [name for part in get_args(kind) for name in _names_of(part)]


def tag_of(spec: type[Spec]) -> str | None:
    """Return the word that picks this Spec in a recipe (`lora`), or None where there is no choice."""
    field = spec.model_fields.get("name")
    is_tag = field is not None and not field.is_required() and get_origin(field.annotation) is Literal
    return field.default if is_tag else None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(needed)"
    return as_text(field.default)


def as_text(value: object) -> str:
    """Write a value as a recipe would on one line."""
    if isinstance(value, Spec):
        return getattr(value, "name", "(see below)")
    if isinstance(value, tuple | list):
        return f"[{', '.join(as_text(part) for part in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_text(part)}" for key, part in value.items()) + "}"
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
