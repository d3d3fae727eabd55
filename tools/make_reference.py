"""Write docs/reference.md from the Specs: each field of a recipe, its type, its default and its sentence.

python tools/make_reference.py docs/reference.md
"""

import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic.fields import FieldInfo

from luthier.core.spec import Spec
from luthier.recipe import Recipe

HEAD = """# Recipe reference

Every field that a recipe may have. Drawn from the Specs by `make docs`; do not edit.
A field marked *required* has no default. On the command line: `--set train.learning_rate=1e-4`.
"""


SIGNS = {"Gt": ">", "Ge": "≥", "Lt": "<", "Le": "≤"}


def main() -> None:
    """Write the reference to the file named on the command line."""
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")


def reference() -> str:
    """Return the reference as Markdown."""
    return "\n".join([HEAD, *sections(Recipe, path="")])


def sections(spec: type[Spec], *, path: str) -> Iterator[str]:
    """Yield a section for a Spec, then one for each Spec that stands in its fields."""
    title = f"`{path}`" if path else "The recipe"
    if "name" in spec.model_fields and path:
        title += f" with `name: {spec.model_fields['name'].default}`"
    yield f"## {title}\n\n{' '.join((spec.__doc__ or '').split())}\n"
    yield "| field | value | default | meaning |\n|---|---|---|---|"
    yield "\n".join(row(name, field) for name, field in spec.model_fields.items()) + "\n"
    for name, field in spec.model_fields.items():
        for below in specs_in(field.annotation):
            yield from sections(below, path=f"{path}.{name}".lstrip("."))


def row(name: str, field: FieldInfo) -> str:
    """Return one field as a line of the table."""
    value = value_of(Annotated[field.annotation, *field.metadata]) if field.metadata else value_of(field.annotation)
    sentence = " ".join((field.description or "").split())
    return f"| `{name}` | {escaped(value)} | {escaped(default_of(field))} | {escaped(sentence)} |"


def escaped(text: str) -> str:
    """Return text that does not end a table's cell."""
    return text.replace("|", "\\|")


def default_of(field: FieldInfo) -> str:
    """Return the default as a person would write it in a recipe."""
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Spec):
        return f"`{value.name}`" if "name" in type(value).model_fields else "see below"
    return f"`{written(value)}`"


def written(value: object) -> str:
    """Return a value as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(written(item) for item in value)}]"
    return str(value) if isinstance(value, str) else json.dumps(value)


def value_of(kind: Any) -> str:
    """Return what may be written for a type, in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        rules = [rule for part in inner[1:] for rule in (part.metadata if isinstance(part, FieldInfo) else [part])]
        limits = ", ".join(limit(rule) for rule in rules if limit(rule))
        return bounded(inner[0], limits) if limits else value_of(inner[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin in (typing.Union, types.UnionType):
        return ", ".join(dict.fromkeys(value_of(part) for part in inner))
    if origin is tuple:
        return "list of " + value_of(inner[0])
    if isinstance(kind, type) and issubclass(kind, Spec):
        return f"`name: {kind.model_fields['name'].default}`" if "name" in kind.model_fields else "a section"
    return {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", type(None): "`null`"}[kind]


def bounded(kind: Any, limits: str) -> str:
    """Return a type's words with its limits, which say nothing about `null`."""
    words = value_of(kind)
    return words.replace(", `null`", "") + f" ({limits})" + (", `null`" if words.endswith("`null`") else "")


def limit(rule: object) -> str:
    """Return a bound as mathematics writes it; other rules have no words here."""
    found = re.fullmatch(r"(Gt|Ge|Lt|Le)\(\w+=(.+)\)", repr(rule))
    return f"{SIGNS[found[1]]} {found[2]}" if found else ""


def specs_in(kind: Any) -> list[type[Spec]]:
    """Return the Specs that a type names."""
    if isinstance(kind, type) and issubclass(kind, Spec):
        return [kind]
    return [spec for part in typing.get_args(kind) for spec in specs_in(part)]


if __name__ == "__main__":
    main()
