"""`luthier compose`: one LoRA made of several."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.options import Json
from luthier.cli.tell import put, put_json


def compose(  # noqa: PLR0913 (each is an option)
    adapters: Annotated[list[str], typer.Argument(metavar="ADAPTER…", help="Runs, or folders in PEFT's format.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The new adapter's folder.")],
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="W,W,…", help="One for each adapter; 1 each by default.")
    ] = None,
    how: Annotated[
        str,
        typer.Option(
            "--how", metavar="WAY", help="cat (exact), svd, linear; ties, dare_linear, dare_ties, also with _svd."
        ),
    ] = "cat",
    density: Annotated[
        float | None, typer.Option("--density", help="For ties and dare: share of each update that is kept (0.5).")
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", help="For svd: rank of the result; the largest.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="The base model; what the first adapter names.")
    ] = None,
    json: Json = False,
) -> None:
    """Make one LoRA of several of the same base, weighted.

    The sum of their updates, or what ties and dare keep of it. The result is an adapter like any other: export it with
    `luthier export --base MODEL --adapters DIR --to merged`.
    """
    from luthier.cli.progress import Progress
    from luthier.jobs.compose import Asked, compose_adapters, weights_of

    asked = Asked(tuple(adapters), out, weights_of(weights), how, density, rank, base)
    with Progress() as progress:
        made = compose_adapters(asked, progress)
    if json:
        put_json(made.model_dump(mode="json"))
        return
    put(f"{made.folder}: rank {made.rank}, from {len(made.adapters)} adapters of {made.base_model}")
