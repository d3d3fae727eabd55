"""`luthier run` and `luthier evaluate`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.options import Json, Set
from luthier.cli.tell import put, put_json, put_table, say

if TYPE_CHECKING:
    from luthier.cli.progress import Progress
    from luthier.core.artifacts import Report
    from luthier.core.runfolder import RunFolder
    from luthier.jobs.pipeline import RunResult
    from luthier.recipe import Recipe


Apply = Annotated[
    str | None,
    typer.Option("--apply", metavar="RUN", help="Take the values that a run's diagnosis (or its .json) proposes."),
]
ApplyOnly = Annotated[
    str | None, typer.Option("--apply-only", metavar="PROBLEM", help="Of --apply, only what helps against this one.")
]


Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Instead of RECIPE: a file of Olive's or AutoTrain's.")
]
Setup = Annotated[
    bool,
    typer.Option("--setup", "--list_required_packages", "--list-required-packages", help="Only say what is missing."),
]


def run(  # noqa: PLR0913 (each is an option)
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="The recipe, or a run's plan.yaml.")] = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run folder to use.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with this recipe's newest run.")] = False,
    apply: Apply = None,
    apply_only: ApplyOnly = None,
    config: Config = None,
    setup: Setup = False,
    json: Json = False,
) -> None:
    """Do a recipe: prepare data, tune, measure, export.

    Everything it makes lies in a run folder: `runs/NAME`, or the one that --out names.
    """
    from luthier.cli.config import recipe_or_config
    from luthier.core.errors import RecipeError
    from luthier.jobs.choose import choose_folder, run_name

    given = recipe_or_config(recipe, config, tuple(set_ or ()), applied=apply or apply_only)
    if setup:
        if apply or apply_only:
            hint = "apply first, with `--set` or by a run, and ask for the packages of the recipe that results"
            raise RecipeError("`--setup` does not look at `--apply`", where={"option": "--apply"}, hint=hint)
        given.tell_missing()
        return
    if given.is_foreign:
        given.run(out=out, resume=resume, as_json=json)
        return
    asked = _asked(given.file, tuple(set_ or ()), apply, apply_only)
    folder = choose_folder(asked, name=run_name(given.file), out=out, resume=resume)
    if resume and not folder.recipe.exists():
        say("there is no run of this recipe to go on with: a new one starts")
    result = tuned(asked, folder)
    if json:
        put_json(result_json(result))
    else:
        put_result(result, folder.path)


def tuned(recipe: "Recipe", folder: "RunFolder", *, quiet: bool = False) -> "RunResult":
    """Run a recipe in a folder, with its progress on stderr; Ctrl-C tells how to go on."""
    from luthier.cli.progress import Progress
    from luthier.core.errors import Interrupted
    from luthier.jobs.pipeline import run_recipe

    say(f"run folder: {folder.path}")
    try:
        with contextlib.ExitStack() as stack:
            heard = () if quiet else (stack.enter_context(Progress()),)
            return run_recipe(recipe, folder, listeners=heard)
    except KeyboardInterrupt as error:
        hint = "what is finished is kept; go on with `--resume`" if folder.is_run else "nothing was kept; run it again"
        raise Interrupted("stopped", where={"run": folder.path}, hint=hint) from error


def _asked(recipe: Path, overrides: tuple[str, ...], apply: str | None, only: str | None) -> "Recipe":
    """Return the recipe with what `--set` and `--apply` change, and say what the latter does."""
    from luthier.core.errors import RecipeError
    from luthier.recipe_io.read import load_recipe

    if apply is None:
        if only is not None:
            raise RecipeError("`--apply-only` needs `--apply`", hint="name a run or its diagnosis.json with `--apply`")
        return load_recipe(recipe, overrides)
    from luthier.jobs.diagnose.apply import apply_diagnosis

    applied = apply_diagnosis(recipe, apply, only=only, overrides=overrides)
    for change in applied.changes or ("the diagnosis changes nothing",):
        say(f"applied: {change}")
    return applied.recipe


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder, or an export's folder.")],
    set_: Set = None,
    of: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Of an export: the run it comes from.")] = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="NAME", help="Of an export with several adapters: which one.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a tuned model against the untuned one, or an export against the tuned model.

    What was measured before is measured again only where `--set evaluate.…` changes it.
    """
    from luthier.cli.progress import Progress

    with Progress() as progress:
        report = _measured(run, tuple(set_ or ()), of=of, adapter=adapter, progress=progress)
    if json:
        put_json(report.model_dump(mode="json"))
    else:
        put_report(report)


def _measured(
    name: str, overrides: tuple[str, ...], *, of: str | None, adapter: str | None, progress: "Progress"
) -> "Report":
    from luthier.core.errors import RecipeError
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.export.manifest import is_export
    from luthier.jobs.export.report import evaluate_export
    from luthier.jobs.pipeline import evaluate_run

    if is_export(Path(name)):
        if overrides:
            hint = "set it for its run: `luthier evaluate RUN --set …`"
            raise RecipeError("an export is measured as its run was", where={"--set": overrides[0]}, hint=hint)
        return evaluate_export(Path(name), progress, run=of, adapter=adapter)
    if of is not None or adapter is not None:
        raise RecipeError("`--run` and `--adapter` go with an export", hint="name an export's folder")
    return evaluate_run(find_run(name, runs_dir()), overrides=overrides, listeners=(progress,))


def result_json(result: "RunResult") -> dict[str, Any]:
    """Return what a run made, as programs read it."""
    parts = {"plan": result.plan, "trained": result.trained, "report": result.report, "exports": result.exports}
    dumped = {name: part.model_dump(mode="json") if part is not None else None for name, part in parts.items()}
    return {"run": str(result.folder), **dumped}


def put_result(result: "RunResult", folder: Path) -> None:
    """Write what a run measured and made."""
    if result.report is not None:
        put_report(result.report)
    for exported in result.exports.exported if result.exports else ():
        results = ", ".join(dict.fromkeys(one.result for one in exported.certificates.values()))
        put(f"{exported.format} model: {exported.folder} ({exported.bytes / 1e6:,.0f} MB, certificate: {results})")
    from luthier.train.spec import is_seq2seq

    method = result.plan.train.method
    predicts = bool(method.heads) or is_seq2seq(method)
    put(f"ask it: luthier predict {folder} --text …" if predicts else f"chat with it: luthier chat {folder}")


def put_report(report: "Report") -> None:
    """Write the results table, the conclusion, and where the readable report lies."""
    from luthier.evaluate.table import table_rows

    rows = table_rows(report)
    columns = ["", *rows[0].cells] if rows else [""]
    title = f"{report.test_rows:,} held-out rows, 95 % intervals"
    put_table(title, columns, [[row.system, *row.cells.values()] for row in rows])
    put(report.conclusion)
    put(f"report: {report.folder / 'report.html'}")
