"""Write docs/reference.md from the Specs: each field of a recipe, what it takes, its default and its sentence.

python tools/make_reference.py docs/reference.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from luthier.core.describe import as_text, specs_of, tag_of, takes
from luthier.core.spec import Spec
from luthier.jobs.service.settings import ServiceSettings
from luthier.recipe import Recipe
from luthier.serve.spec import ServeSpec

HEAD = """# Recipe reference

Every field that a recipe may have, drawn from the Specs by `make docs`; do not edit. A field marked *needed* has no
default. On the command line, `--set` sets one field by its dotted path: `--set train.learning_rate=1e-4`.
"""

SERVICE = """# Settings of the service

`service.yaml` in the home of `luthier serve`, read when it starts; `train` takes what a recipe's `train` takes.
"""


def main() -> None:
    """Write the reference to the file named on the command line."""
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")


def reference() -> str:
    """Return the reference as Markdown."""
    service = [SERVICE, table(ServiceSettings), "## `serve`\n", table(ServeSpec)]
    return "\n".join([HEAD, *sections(Recipe, path=""), *service]).rstrip() + "\n"


def sections(spec: type[Spec], *, path: str) -> Iterator[str]:
    """Yield a section for a Spec, then one for each Spec that may stand in its fields."""
    title = f"`{path}`" if path else "The recipe"
    if tag_of(spec):
        title += f" with `name: {tag_of(spec)}`"
    yield f"## {title}\n\n{' '.join((spec.__doc__ or '').split())}\n"

    yield table(spec)

    for name, field in spec.model_fields.items():
        for below in specs_of(field.annotation):
            yield from sections(below, path=f"{path}.{name}".lstrip("."))


def table(spec: type[Spec]) -> str:
    """Return the fields of a Spec as a table."""
    rows = [row(spec, name) for name in spec.model_fields]
    return "\n".join(["| field | takes | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def row(spec: type[Spec], name: str) -> str:
    """Return one field as a line of a table."""
    field = spec.model_fields[name]
    blocks = [f"`name: {tag_of(below)}`" if tag_of(below) else "a block, below" for below in specs_of(field.annotation)]
    if blocks and type(None) in get_args(field.annotation):
        blocks.append("`null`")
    default = (
        "*needed*" if field.is_required() else f"`{as_text(field.default)}`".replace("`(see below)`", "its defaults")
    )
    meaning = " ".join((field.description or "").split())
    return f"| `{name}` | {' or '.join(blocks) or takes(field)} | {default} | {meaning} |"


if __name__ == "__main__":
    main()
