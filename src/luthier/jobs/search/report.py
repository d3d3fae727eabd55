"""The report of a search: a table, Markdown with pictures, JSON, and the best trial as a recipe."""

from luthier.core.files import write_atomic
from luthier.core.yaml import Where
from luthier.jobs.plan import written_paths
from luthier.jobs.search.desk import HELD_OUT, Desk
from luthier.jobs.search.plots import pictures
from luthier.jobs.search.result import OWN, Searched, TrialResult, number_text, objective_title, tried_text, value_text
from luthier.jobs.search.study import lower
from luthier.recipe_io.read import recipe_yaml

RESULT, REPORT, BEST = "search-result.json", "report.md", "best.yaml"
CAPTIONS = {
    "history.svg": "What each trial reached, and the best so far",
    "importance.svg": "How much of the spread each field explains (fANOVA)",
    "parallel.svg": "Every trial across all fields; the best stands out",
}


def write_report(desk: Desk, result: Searched) -> Searched:
    """Write everything into the search's folder, and return the result with its recipe."""
    folder = desk.folder
    if result.best is not None:
        write_atomic(folder / BEST, best_recipe(desk, result))
        result = result.model_copy(update={"recipe": folder.absolute() / BEST})
    drawn = pictures(result)
    for name in CAPTIONS:
        if name in drawn:
            write_atomic(folder / name, drawn[name])
        else:
            (folder / name).unlink(missing_ok=True)
    write_atomic(folder / REPORT, markdown(result, list(drawn)))
    write_atomic(folder / RESULT, result.model_dump_json(indent=2) + "\n")
    return result


def best_recipe(desk: Desk, result: Searched) -> str:
    """Return the recipe with the best trial's values, each with what it was before."""
    if result.best == OWN:
        return recipe_yaml(desk.recipe_of({}))
    tried = result.trial(result.best or OWN).tried
    comments: dict[Where, str] = {
        tuple(path.split(".")): f"found by `luthier search`; was {value_text(desk.own[path])}" for path in tried
    }
    recipe = desk.recipe_of(tried)
    known = set(written_paths(recipe))
    return recipe_yaml(recipe, {path: text for path, text in comments.items() if ".".join(path) in known})


def columns(result: Searched) -> list[str]:
    """Return the heads of the table of trials."""
    fields = [path.rsplit(".", 1)[-1] for path in result.dimensions]
    extra = [] if "seconds" in result.objectives else ["seconds"]
    return ["trial", *fields, *(objective_title(name) for name in result.objectives), *extra, ""]


def rows(result: Searched) -> list[list[str]]:
    """Return a line for each trial: those that ended first, the best on top."""
    ranked = sorted(result.trials, key=lambda trial: (_rank(result, trial), trial.number))
    return [_row(result, trial) for trial in ranked]


def _rank(result: Searched, trial: TrialResult) -> tuple[int, float]:
    if trial.state != "done":
        return (1, 0.0)
    value = trial.values[0]
    return (0, value if lower(result.objectives[0]) else -value)


def _row(result: Searched, trial: TrialResult) -> list[str]:
    fields = [value_text(trial.tried.get(path, "–")) for path in result.dimensions]
    values = trial.values or (None,) * len(result.objectives)
    extra = [] if "seconds" in result.objectives else [number_text(trial.seconds)]
    name = "recipe" if trial.number == OWN else str(trial.number)
    return [name, *fields, *(number_text(value) for value in values), *extra, _remark(result, trial)]


def _remark(result: Searched, trial: TrialResult) -> str:
    if trial.number == result.best:
        return "best"
    if trial.number in result.front:
        return "no other beats it in all"
    return trial.why or ("" if trial.state == "done" else trial.state)


def markdown(result: Searched, drawn: list[str]) -> str:
    """Return the report as Markdown."""
    heads = columns(result)
    lines = ["# Search", "", result.conclusion, ""]
    lines += [f"{HELD_OUT} Sampler {result.sampler}, pruner {result.pruner}, {_count(result)}.", ""]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows(result)]
    lines += ["", "## Searched", ""] + [f"- `{path}`: {words}" for path, words in result.dimensions.items()]
    if result.best is not None:
        best = result.trial(result.best)
        lines += ["", "## Go on", "", f"`luthier run {BEST}` tunes with {tried_text(best.tried)}"]
        lines[-1] += ", measures it on the test rows and exports it."
    for name in drawn:
        lines += ["", f"## {CAPTIONS[name]}", "", f"![{CAPTIONS[name]}]({name})"]
    return "\n".join(lines) + "\n"


def _count(result: Searched) -> str:
    states = [trial.state for trial in result.trials]
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"{len(states)} of {result.asked + 1} trials ({', '.join(parts)})"
