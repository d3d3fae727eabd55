"""`luthier advise`: measured, should this be fine-tuned at all?"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json, Set
from luthier.cli.tell import put, put_json, put_table, say
from luthier.core.errors import RecipeError

if TYPE_CHECKING:
    from luthier.advise.verdict.prices import Prices
    from luthier.jobs.advise.result import Advised

UNITS = {"s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


def advise(  # noqa: PLR0913 (a command's options)
    data: Annotated[list[str], typer.Argument(metavar="FILE...", help="Data files.")],
    goal: Annotated[
        str | None, typer.Option("--goal", metavar="TEXT", help="What the answers are for; untuned models are told.")
    ] = None,
    base_model: Annotated[
        list[str] | None,
        typer.Option("--base-model", metavar="MODEL", help="A base model to try; may be repeated."),
    ] = None,
    documents: Annotated[
        Path | None, typer.Option("--documents", metavar="DIR", help="Text files that answers may be found in.")
    ] = None,
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="Time to spend: 90s, 10m, 2h.")] = "10m",
    worthwhile: Annotated[
        float | None,
        typer.Option("--worthwhile", metavar="NUMBER", min=0.0, help="The smallest gain worth a dearer alternative."),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Prices (YAML): machine_hour, prompt_million …")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where the advice goes.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of splits and draws.")] = 7,
    harness: Annotated[
        list[str] | None,
        typer.Option("--harness", metavar="TASK", help="A task of lm-eval for what it forgets; may be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=20, help="Trainings of the largest tuning.")] = 1,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Measure whether tuning beats instructions, examples, retrieval and frozen vectors on your rows.

    Answers and tunings that lie in the folder already are not done again.
    """
    from luthier.cli.progress import Progress
    from luthier.jobs.advise.advise import Wanted, advise

    wanted = Wanted(
        files=tuple(data),
        out=out or Path("advice") / Path(data[0]).stem,
        goal=goal,
        base_models=tuple(base_model or ("smollm2-135m-instruct",)),
        documents=documents,
        budget_s=seconds_of(budget),
        prices=_prices(prices),
        worthwhile=worthwhile,
        seed=seed,
        seeds=seeds,
        harness=_tasks(harness),
        overrides=tuple(set_ or ()),
    )
    say(f"advice goes to {wanted.out}")
    with Progress() as progress:
        advised = advise(wanted, progress)
    if json:
        put_json(advised.model_dump(mode="json"))
    else:
        put_advice(advised)


def seconds_of(text: str) -> float:
    """Return a time such as `90s`, `10m` or `2h` in seconds; a plain number is seconds."""
    found = DURATION.fullmatch(text.strip().lower())
    seconds = float(found[1]) * UNITS[found[2] or "s"] if found else 0.0
    if seconds <= 0:
        raise RecipeError("this is no time", where={"--budget": text}, hint="write it as 90s, 10m or 2h")
    return seconds


def put_advice(advised: "Advised") -> None:
    """Write the table of alternatives, the verdict, and the reasons."""
    from luthier.evaluate.table import HARNESS_COLUMNS, harness_rows
    from luthier.jobs.advise.report import COLUMNS, more_rows, table
    from luthier.score.names import title_of

    for found in advised.bases:
        title = f"{found.base_model}: {title_of(advised.metric)} on {advised.held_out:,} held-out rows"
        put_table(title, COLUMNS, table(found, advised.metric))
        for name, why in found.left_out.items():
            put(f"not measured: {name} ({why})")
        if found.harness:
            put_table(f"{found.base_model}: what it forgets", HARNESS_COLUMNS, harness_rows(found.harness))
    best = advised.of_best
    put(f"\n{advised.verdict}\n")
    put("why")
    for reason in best.reasons:
        put(f"- {reason}")
    if best.sensitivity:
        put("what would change it")
    for text in best.sensitivity:
        put(f"- {text}")
    put(f"more data? {more_rows(best, advised.metric)}")
    for facts in (best.costs, best.benefits):
        for name, text in facts.items():
            put(f"{name}: {text}")
    put(f"\nadvice: {advised.folder / 'advice.html'}")
    put(f"recipe: {advised.recipe}")


def _tasks(named: list[str] | None) -> tuple[str, ...]:
    """Return tasks of lm-eval; task files count from here, wherever they are read."""
    from luthier.evaluate.harness import is_task_file

    return tuple(str(Path(task).resolve()) if is_task_file(task) else task for task in named or ())


def _prices(path: Path | None) -> "Prices":
    from pydantic import ValidationError

    from luthier.advise.verdict.prices import Prices
    from luthier.core.yaml import read_yaml

    if path is None:
        return Prices()
    document = read_yaml(path)
    try:
        return Prices.model_validate(document.value or {})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where: dict[str, object] = {"file": path, "field": ".".join(map(str, detail["loc"]))}
        line = document.line_of(detail["loc"])
        hint = f"it takes {', '.join(Prices.model_fields)}"
        raise RecipeError(
            "these prices cannot be used", where=where | ({"line": line} if line else {}), why=detail["msg"], hint=hint
        ) from error
