"""`luthier doctor`, `luthier show`, `luthier schema`."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json
from luthier.cli.tell import put, put_json, put_table

if TYPE_CHECKING:
    from luthier.core.spec import Spec

MARKS = {"ok": " ", "note": "·", "problem": "!"}


class Topic(StrEnum):
    """What `luthier show` can draw."""

    adapters = "adapters"
    methods = "methods"
    formats = "formats"
    metrics = "metrics"
    recipe = "recipe"


def version(asked: bool) -> None:
    """Print the version and leave, where that was asked for."""
    from luthier import __version__

    if asked:
        put(f"luthier {__version__}")
        raise typer.Exit


def doctor(json: Json = False) -> None:
    """Look over this machine and installation.

    Leaves with 1 where something is wrong.
    """
    from luthier.jobs.doctor import examine

    found = examine()
    if json:
        put_json([finding.model_dump(mode="json") for finding in found])
    for finding in found if not json else ():
        put(f"{MARKS[finding.state]} {finding.name:<15} {finding.value}")
        if finding.hint:
            put(f"  {'':<15} hint: {finding.hint}")
    if any(finding.state == "problem" for finding in found):
        raise typer.Exit(1)


def show(topic: Annotated[Topic, typer.Argument(help="What to list.")] = Topic.recipe) -> None:
    """List what there is to choose from."""
    drawings = {
        Topic.adapters: lambda: _show_specs(_adapters()),
        Topic.methods: lambda: _show_specs(_methods()),
        Topic.formats: _show_formats,
        Topic.metrics: _show_metrics,
        Topic.recipe: _show_recipe,
    }
    drawings[topic]()


def schema() -> None:
    """Print the JSON schema of a recipe."""
    from luthier.recipe import Recipe

    put_json(Recipe.model_json_schema())


def _adapters() -> "list[type[Spec]]":
    from luthier.core.describe import specs_of
    from luthier.train.spec import TrainSpec

    return specs_of(TrainSpec.model_fields["adapter"].annotation)


def _methods() -> "list[type[Spec]]":
    from luthier.core.describe import specs_of
    from luthier.train.spec import TrainSpec

    return specs_of(TrainSpec.model_fields["method"].annotation)


def _show_specs(specs: "list[type[Spec]]") -> None:
    from luthier.core.describe import field_rows, tag_of

    for spec in specs:
        put(f"{tag_of(spec)}: {spec.__doc__}")
        for row in field_rows(spec):
            put(f"    {row.path:<16} {row.takes}; default {row.default}. {row.meaning}")


def _show_formats() -> None:
    from luthier.data.formats.recognise import FORMATS

    put_table("", ["format", "recognised by"], [[kind.name, kind.needs] for kind in FORMATS])


def _show_metrics() -> None:
    from typing import get_args

    from luthier.core.artifacts import AnswerKind
    from luthier.score.names import TITLES, metrics_for

    kinds = get_args(AnswerKind)
    put_table("", ["metric", "title", "measured for"], list(_metric_rows(TITLES, kinds, metrics_for)))


def _metric_rows(titles: dict[str, str], kinds: tuple[str, ...], metrics_for: object) -> Iterator[list[str]]:
    for name, title in titles.items():
        yield [name, title, ", ".join(kind for kind in kinds if name in metrics_for(kind)) or "when asked for"]


def _show_recipe() -> None:
    from luthier.core.describe import field_rows
    from luthier.recipe import Recipe

    rows = [[row.path, row.takes, row.default, row.meaning] for row in field_rows(Recipe)]
    put_table("", ["field", "takes", "default", "meaning"], rows)
