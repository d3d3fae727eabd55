"""`luthier search`: other values of a recipe, tried and compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json, RecipeFile, Set
from luthier.cli.tell import put_json, say

if TYPE_CHECKING:
    from luthier.jobs.search.result import Searched


def search(  # noqa: PLR0913 (each is an option)
    recipe: RecipeFile,
    space: Annotated[Path, typer.Option("--space", metavar="FILE", help="What to search (YAML): docs/search.md.")],
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", min=1, help="Trials beside the recipe's own values.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", metavar="NAME", help="random, tpe, grid or cmaes.")
    ] = None,
    pruner: Annotated[str | None, typer.Option("--pruner", metavar="NAME", help="none, median or hyperband.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", metavar="NAME", help="validation_loss, a metric, seconds …; may be repeated."),
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="TIME", help="Time to spend: 90s, 10m, 2h.")] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, max=256, help="Trials at once.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder to search in.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with this search.")] = False,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Try other values of a recipe, and write the best as a recipe.

    Trials are judged on the validation rows, never on the test rows. The recipe's own values are tried first.
    """
    from luthier.cli.advise import seconds_of
    from luthier.cli.progress import Progress
    from luthier.jobs.search.desk import Wanted
    from luthier.jobs.search.search import search as search_recipe

    wanted = Wanted(
        recipe=recipe,
        space=space,
        overrides=tuple(set_ or ()),
        trials=trials,
        sampler=sampler,
        pruner=pruner,
        objectives=tuple(objective or ()),
        budget_s=None if budget is None else seconds_of(budget),
        workers=workers,
        out=out,
        resume=resume,
    )
    with Progress() as progress:
        result = search_recipe(wanted, progress)
    put_search(result)
    if json:
        put_json(result.model_dump(mode="json"))


def put_search(result: "Searched") -> None:
    """Say the table of trials, the conclusion, and where the best recipe lies."""
    from luthier.cli.tell import say_table
    from luthier.jobs.search.report import REPORT, columns, rows

    say_table("trials, the best first", columns(result), rows(result))
    say(result.conclusion)
    say(f"report: {result.folder / REPORT}")
    if result.recipe is not None:
        say(f"recipe: {result.recipe}")
