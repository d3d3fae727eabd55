"""`luthier init`, `luthier data check`, `luthier data preview`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.options import BaseModel, Files, Json, Set
from luthier.cli.tell import put, put_json, say

if TYPE_CHECKING:
    from luthier.data.preview import Piece, PreviewRow
    from luthier.data.rows import RowIssue
    from luthier.recipe import Recipe

TRAINED, END = "\033[1;4;32m", "\033[0m"
PLAIN_TRAINED, PLAIN_END = "[[", "]]"
RECIPE_ENDINGS = (".yaml", ".yml")

app = typer.Typer(help="Look at data before a run.", no_args_is_help=True, rich_markup_mode=None)


def init(
    data: Annotated[list[str], typer.Option("--data", metavar="FILE", help="The rows; may be given several times.")],
    out: Annotated[Path, typer.Option("--out", metavar="RECIPE", help="Where to write.")] = Path("recipe.yaml"),
    base_model: BaseModel = None,
    set_: Set = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that is there.")] = False,
) -> None:
    """Write a first recipe that suits the data.

    It is commented, and its values follow from a look at the rows, the model and this machine.
    """
    from luthier.cli.progress import Progress
    from luthier.core.errors import RecipeError
    from luthier.core.files import write_atomic
    from luthier.jobs.looking import first_recipe

    if out.exists() and not force:
        raise RecipeError("there is a recipe already", where={"file": out}, hint="choose another `--out`, or `--force`")
    recipe = _recipe_of(data, base_model, set_)
    with Progress() as progress:
        text = first_recipe(recipe, out, progress)
    write_atomic(out, text)
    put(f"wrote {out}")
    say(f"next: luthier run {out}")


@app.command()
def check(files: Files, base_model: BaseModel = None, set_: Set = None, json: Json = False) -> None:
    """Say what is in the rows and what is wrong with them.

    With counts and row numbers; all of them with --json.
    """
    from luthier.cli.check import put_check
    from luthier.cli.progress import Progress
    from luthier.jobs.looking import check_data

    recipe = _recipe_of(files, base_model, set_)
    with Progress() as progress:
        found = check_data(recipe, progress)
    if json:
        put_json(found.model_dump(mode="json") | {"warnings": found.warnings()})
    else:
        put_check(found)


@app.command()
def preview(
    files: Files,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many rows.")] = 3,
    base_model: BaseModel = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Show rows as the model will see them.

    The trained tokens are coloured on a terminal, and stand in [[ ]] elsewhere.
    """
    from luthier.cli.progress import Progress
    from luthier.jobs.looking import preview_data

    recipe = _recipe_of(files, base_model, set_)
    with Progress() as progress:
        shown = preview_data(recipe, progress, rows=rows)
    if json:
        put_json([_row_json(row) for row in shown])
        return
    marks = (TRAINED, END) if sys.stdout.isatty() else (PLAIN_TRAINED, PLAIN_END)
    for row in shown:
        put(row_text(row, marks))


def _recipe_of(files: list[str], base_model: str | None, set_: list[str] | None) -> "Recipe":
    """Return the recipe that the words on the command line stand for."""
    from luthier.recipe_io.read import load_recipe, recipe_from

    words = [*([f"base_model={base_model}"] if base_model else []), *(set_ or [])]
    if len(files) == 1 and files[0].endswith(RECIPE_ENDINGS):
        return load_recipe(Path(files[0]), words)
    return recipe_from({"data": {"path": files}}, words)


def _row_json(row: "PreviewRow | RowIssue") -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(row) if dataclasses.is_dataclass(row) else row.model_dump(mode="json")


def row_text(row: "PreviewRow | RowIssue", marks: tuple[str, str]) -> str:
    """Write one row with its trained tokens between marks."""
    pieces = getattr(row, "pieces", None)
    if pieces is None:
        return f"--- {row}"
    trained = sum(piece.tokens for piece in pieces if piece.target)
    note = ", longer than a row may be" if row.too_long else ""
    head = f"--- {Path(row.file).name}:{row.row}  {row.tokens:,} tokens, {trained:,} trained{note}"
    other = f"\n--- rejected\n{_marked(row.rejected, marks)}" if row.rejected else ""
    other += "".join(f"\n--- compared with\n{_marked(text, marks)}" for text in row.others)
    return f"{head}\n{_marked(pieces, marks)}{other}"


def _marked(pieces: "tuple[Piece, ...]", marks: tuple[str, str]) -> str:
    start, end = marks
    return "".join(f"{start}{piece.text}{end}" if piece.target else piece.text for piece in pieces)
