"""`luthier runs`: list, show, compare."""

from typing import Annotated

import typer

from luthier.cli.options import Json, RunName
from luthier.cli.tell import put, put_json, put_table, say

app = typer.Typer(help="Look at runs (lists them without a command).", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def runs(context: typer.Context) -> None:
    """Look at runs."""
    if context.invoked_subcommand is None:
        list_runs()


@app.command("list")
def list_runs(json: Json = False) -> None:
    """List the runs, newest first."""
    from luthier.core.runfolder import runs_of
    from luthier.core.settings import runs_dir
    from luthier.jobs.summary import TUNED, summarise

    found = [summarise(run) for run in runs_of(runs_dir())]
    if json:
        put_json([summary.model_dump(mode="json") for summary in found])
    elif found:
        columns = ["run", "state", "base model", "steps", "metric", "tuned"]
        rows = [
            [run.name, run.state, run.base_model, str(run.steps or ""), run.metric or "", run.results.get(TUNED, "")]
            for run in found
        ]
        put_table("", columns, rows)
    else:
        say(f"there are no runs in {runs_dir()}")


@app.command()
def show(run: RunName, json: Json = False) -> None:
    """Show what one run made."""
    from luthier.cli.run import put_report
    from luthier.core.artifacts import Report
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.jobs.summary import summarise

    folder = find_run(run, runs_dir())
    summary, report = summarise(folder), Report.read(folder.room("evaluate"))
    if json:
        put_json(summary.model_dump(mode="json"))
        return
    put(f"{summary.name}: {summary.state}, {summary.base_model}, in {folder.path}")
    if summary.steps is not None:
        loss = "" if summary.validation_loss is None else f", validation loss {summary.validation_loss:.4f}"
        put(f"{summary.steps:,} steps{loss}")
    if report is not None:
        put_report(report.model_copy(update={"folder": folder.room("evaluate")}))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two or more runs.")], json: Json = False
) -> None:
    """Show in which values runs differ, and how they measured."""
    from luthier.core.errors import RecipeError
    from luthier.core.runfolder import find_run
    from luthier.core.settings import runs_dir
    from luthier.jobs.summary import differences, summarise

    if len(runs) < 2:
        raise RecipeError("one run alone cannot be compared", hint="name two or more; `luthier runs` lists them")
    folders = [find_run(run, runs_dir()) for run in runs]
    summaries, changed = [summarise(folder) for folder in folders], differences(folders)
    if json:
        summary_rows = [summary.model_dump(mode="json") for summary in summaries]
        put_json({"runs": summary_rows, "differences": [row.model_dump(mode="json") for row in changed]})
        return
    names = [summary.name for summary in summaries]
    put_table("values that differ", ["field", *names], [[row.path, *row.values] for row in changed])
    systems = list(dict.fromkeys(system for summary in summaries for system in summary.results))
    metrics = ", ".join(dict.fromkeys(summary.metric for summary in summaries if summary.metric))
    rows = [[system, *(summary.results.get(system, "") for summary in summaries)] for system in systems]
    put_table(f"results: {metrics or 'none yet'}", ["system", *names], rows)
