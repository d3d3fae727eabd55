"""The commands of `luthier`, put together."""

from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from luthier.cli import (
    about,
    advise,
    bench,
    chat,
    compose,
    data,
    diagnose,
    estimate,
    export,
    finetune,
    judge,
    keys,
    olive,
    predict,
    run,
    runs,
    search,
    serve,
)
from luthier.cli.tell import say

if TYPE_CHECKING:
    from typer import Context

USAGE_STATUS = 2

app = typer.Typer(
    name="luthier",
    help="Fine-tune language models on hardware you own, and prove whether it was worth it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(data.init)
app.add_typer(data.app, name="data")
app.command("advise")(advise.advise)
app.command("estimate")(estimate.estimate)
app.command("run")(run.run)
app.command("search")(search.search)
app.command("evaluate")(run.evaluate)
app.command("export")(export.export)
app.command("finetune")(finetune.finetune)
app.command("auto-opt")(olive.auto_opt)
app.command("generate-adapter")(olive.generate_adapter)
app.command("bench")(bench.bench)
app.command("compose")(compose.compose)
app.command("chat")(chat.chat)
app.command("predict")(predict.predict)
app.command("judge")(judge.judge)
app.add_typer(runs.app, name="runs")
app.command("diagnose")(diagnose.diagnose)
app.command("serve")(serve.serve)
app.add_typer(keys.keys, name="keys")
app.add_typer(keys.deployments, name="deployments")
app.command("doctor")(about.doctor)
app.command("show")(about.show)
app.command("schema")(about.schema)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=about.version)
    ] = False,
) -> None:
    """Fine-tune language models on hardware you own, and prove whether it was worth it."""


def work() -> object:
    """Do what the command line says; Typer turns Ctrl-C and `typer.Exit` into a returned status."""
    try:
        return app(prog_name="luthier", standalone_mode=False)
    except TyperException as error:
        return _misused(error)


def _nearest(unknown: str | None, context: "Context | None") -> str | None:
    """Return the option that an unknown one most resembles."""
    if not unknown or context is None:
        return None
    from rapidfuzz import fuzz, process

    known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
    found = process.extractOne(unknown, known, scorer=fuzz.ratio, score_cutoff=60)
    return str(found[0]) if found else None


def _misused(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    if error.format_message().startswith("Usage:"):
        say(error.format_message())
        return USAGE_STATUS
    say(f"error: {error.format_message()}")
    near = _nearest(getattr(error, "option_name", None), context)
    help_ = f"`{context.command_path if context else 'luthier'} --help` lists what there is"
    say(f"hint: did you mean `{near}`? {help_}" if near else f"hint: {help_}")
    return USAGE_STATUS
