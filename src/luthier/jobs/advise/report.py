"""The advice for a person: `advice.md`, and `advice.html` with its charts."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from luthier.core.files import write_atomic
from luthier.evaluate.svg import Bar, Line, interval_chart, line_chart
from luthier.evaluate.table import HARNESS_COLUMNS, harness_rows
from luthier.jobs.advise.result import Advised, Alternative, OfBase
from luthier.score.names import lower_is_better, title_of
from luthier.score.verdict import estimate_text, number_text

COLUMNS = ("alternative", "score", "prompt tokens", "s per answer", "cost of 1,000", "measured in")
SEEDS_SAID = (
    "Where a tuning was trained with several seeds, its value is their mean, its interval is of the rows, and the "
    "spread of the seeds is in the comparisons and so in the verdict."
)
WIDE_KINDS = ("tune", "tune + retrieve")


def write_report(advised: Advised) -> None:
    """Write both pages beside `advice.json`."""
    write_atomic(advised.folder / "advice.md", markdown(advised).encode("utf-8", "replace"))
    write_atomic(advised.folder / "advice.html", page(advised).encode("utf-8", "replace"))


def table(found: OfBase, metric: str) -> list[list[str]]:
    """Return a row of text for each alternative, the best first."""
    sign = 1 if lower_is_better(metric) else -1
    ordered = sorted(found.alternatives, key=lambda one: sign * one.value.value)
    return [_row(one, metric, one.name == found.chosen) for one in ordered]


def markdown(advised: Advised) -> str:
    """Return the advice as Markdown."""
    parts = [f"# Should this be fine-tuned?\n\n**{advised.verdict}**\n"]
    parts.append("## Use case\n\n" + _list(use_case(advised)))
    for found in advised.bases:
        name = f" with {found.base_model}" if len(advised.bases) > 1 else ""
        parts.append(f"## Alternatives, measured{name}\n\n{_table(table(found, advised.metric))}")
        parts.append(_list(found.left_out, "Not measured") if found.left_out else "Nothing was left out.\n")
        parts.append("## Costs\n\n" + _list(found.costs))
        parts.append("## Benefits\n\n" + _list(found.benefits or {"none": "no tuning was measured"}))
        if found.harness:
            tasks = _table(harness_rows(found.harness), HARNESS_COLUMNS)
            parts.append(f"## What it forgets: tasks of lm-eval\n\n{tasks}")
        parts.append("## More data?\n\n" + more_rows(found, advised.metric) + "\n")
        parts.append(f"## Why: {found.choice}\n\n" + "".join(f"- {reason}\n" for reason in found.reasons))
        if found.sensitivity:
            parts.append("## What would change it\n\n" + "".join(f"- {text}\n" for text in found.sensitivity))
    if any(one.trainings > 1 for found in advised.bases for one in found.alternatives):
        parts.append(f"{SEEDS_SAID}\n")
    spent = f"{advised.seconds:.0f} s of a budget of {advised.budget_s:.0f} s"
    parts.append(f"---\nMeasured in {spent}. Next: `luthier run {advised.recipe}`.\n")
    return "\n".join(parts)


def use_case(advised: Advised) -> dict[str, str]:
    """Return what is to be improved, and how that is measured."""
    goal = {"goal": advised.goal} if advised.goal else {}
    rows = ", ".join(f"{name} {count:,}" for name, count in advised.rows.items())
    return goal | {
        "task": f"{advised.task}: {advised.task_because}",
        "metric": title_of(advised.metric),
        "rows": f"{rows}; {advised.held_out:,} held-out rows were put to every alternative",
    }


def more_rows(found: OfBase, metric: str) -> str:
    """Say what twice the rows would bring."""
    gain = found.more_rows
    if gain is None:
        return "Fewer than two tunings were measured, so nothing can be said."
    value, low, high = (
        ("−" if x < 0 else "+") + number_text(metric, abs(x)) for x in (gain.value, gain.low, gain.high)
    )
    return f"Twice the rows would bring tuning {value} ({low} … {high}) in {title_of(metric)}."


def page(advised: Advised) -> str:
    """Return the advice as one self-contained page; all text is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("advice.html.jinja").render(
        advised=advised,
        use_case=use_case(advised),
        columns=COLUMNS,
        harness_columns=HARNESS_COLUMNS,
        harness=[harness_rows(found.harness) for found in advised.bases],
        seeds_said=SEEDS_SAID
        if any(one.trainings > 1 for found in advised.bases for one in found.alternatives)
        else "",
        bases=[(found, table(found, advised.metric), *_charts(found, advised.metric)) for found in advised.bases],
        more=[more_rows(found, advised.metric) for found in advised.bases],
    )


def _charts(found: OfBase, metric: str) -> tuple[Markup, Markup | None]:
    bars = [
        Bar(one.name, one.value.value, one.value.low, one.value.high, one.name == found.chosen)
        for one in found.alternatives
    ]
    curve = _curve(found.alternatives, metric)
    # Both are escaped in svg.py.
    return Markup(interval_chart(title_of(metric), bars)), curve  # noqa: S704


def _curve(alternatives: Sequence[Alternative], metric: str) -> Markup | None:
    pick = min if lower_is_better(metric) else max
    by_rows: dict[int, list[float]] = {}
    for one in alternatives:
        if one.family == "tune" and one.train_rows:
            by_rows.setdefault(one.train_rows, []).append(one.value.value)
    points = tuple((rows, pick(values)) for rows, values in sorted(by_rows.items()))
    if len(points) < 2:
        return None
    line = Line("tuned", points)
    # Escaped in svg.py, as the other chart is.
    return Markup(line_chart(f"{title_of(metric)} by training rows", [line], along="rows"))  # noqa: S704


def _row(one: Alternative, metric: str, is_chosen: bool) -> list[str]:
    spent = one.seconds + (one.train_seconds if one.family in WIDE_KINDS else 0.0)
    return [
        (f"→ {one.name}" if is_chosen else one.name) + (f" × {one.trainings} seeds" if one.trainings > 1 else ""),
        estimate_text(metric, one.value),
        f"{one.prompt_tokens:,.0f}" if one.prompt_tokens else "–",
        f"{one.latency_s:.3f}" if one.latency_s else "–",
        f"{one.cost_per_1000:.4f}" if one.latency_s else "–",
        f"{spent:,.0f} s",
    ]


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _list(facts: dict[str, str], title: str = "") -> str:
    head = f"{title}:\n\n" if title else ""
    return head + "".join(f"- {name}: {text}\n" for name, text in facts.items())
