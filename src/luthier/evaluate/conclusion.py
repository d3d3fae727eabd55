"""The conclusion: was tuning worth it, and was it the task or only the format that was learnt?"""

from collections.abc import Sequence

from luthier.core.artifacts import Comparison, SystemResult
from luthier.score.names import lower_is_better, title_of
from luthier.score.verdict import difference_text, estimate_text, number_text, outcome

TUNED = "tuned"
LABEL_SCORED = " (label-scored)"
"""Ends the names of systems that choose the likeliest label instead of writing an answer."""
SEEDED = f"{TUNED} (seed "
"""Begins the names of the same training with other seeds."""
FEWEST_ROWS = 6
"""The paired tests flip rows, so that p cannot fall below 2 / 2^rows: fewer rows never reach 0.05."""


def conclusion(systems: Sequence[SystemResult], comparisons: Sequence[Comparison], primary: str) -> str:
    """Say in a few sentences whether the tuned model beats the best baseline in the primary metric.

    Expects comparisons with a = `tuned` and b = each baseline.
    """
    tuned = next((system for system in systems if system.name == TUNED and primary in system.metrics), None)
    if tuned is None:
        return "The tuned model was not measured, so nothing can be said about the tuning."
    best = best_baseline(systems, primary)
    reached = f"{title_of(primary)} {estimate_text(primary, tuned.metrics[primary])}"
    if best is None:
        return f"The tuned model reaches {reached}. No baseline was measured, so nothing says whether tuning helped."
    comparison = find(comparisons, best.name, primary)
    if comparison is None:
        return f"The tuned model reaches {reached}. It was not compared with {best.name} row by row."
    return " ".join(
        filter(None, [_headline(reached, best, comparison), _format_or_task(systems, comparisons, primary)])
    )


def seeded(number: int, seed: int) -> str:
    """Return the name of a training: the first one is the tuned model, the others show the spread of seeds."""
    return f"{SEEDED}{seed})" if number else TUNED


def best_baseline(systems: Sequence[SystemResult], metric: str) -> SystemResult | None:
    """Return the system with the best value of a metric among those that are not tuned; the first of equals."""
    rivals = [system for system in systems if not system.name.startswith(TUNED) and metric in system.metrics]
    sign = 1 if lower_is_better(metric) else -1
    return min(rivals, key=lambda system: sign * system.metrics[metric].value, default=None)


def find(comparisons: Sequence[Comparison], baseline: str, metric: str) -> Comparison | None:
    """Return the comparison of the tuned system with a baseline in one metric."""
    wanted = (TUNED, baseline, metric)
    return next((one for one in comparisons if (one.a, one.b, one.metric) == wanted), None)


def _headline(reached: str, best: SystemResult, comparison: Comparison) -> str:
    metric = comparison.metric
    rows = best.metrics[metric].n
    numbers = f"{reached} against {number_text(metric, best.metrics[metric].value)} for {best.name}, the best baseline"
    difference = f"difference {difference_text(comparison).removeprefix(title_of(metric) + ' ')}"
    opening = {"better": "Tuning was worth it", "worse": "Tuning made it worse", "none": "No detectable difference"}
    over = f" over {comparison.seeds} trainings" if comparison.seeds > 1 else ""
    said = f"{opening[outcome(comparison)]}: {numbers}; {difference} on {rows} test rows{over}."
    if outcome(comparison) != "none":
        return said
    if rows < FEWEST_ROWS:
        return f"{said} Fewer than {FEWEST_ROWS} rows cannot show any difference, however large."
    unseen = (comparison.high - comparison.low) / 2
    return f"{said} So few rows cannot show a difference smaller than about {number_text(metric, unseen)}."


def _format_or_task(systems: Sequence[SystemResult], comparisons: Sequence[Comparison], primary: str) -> str:
    """Tell format from task: the label-scored untuned model shows what is left once the format is given."""
    writing = best_baseline([s for s in systems if not s.name.endswith(LABEL_SCORED)], primary)
    choosing = best_baseline([s for s in systems if s.name.endswith(LABEL_SCORED)], primary)
    if writing is None or choosing is None:
        return ""
    to_writing, to_choosing = (find(comparisons, system.name, primary) for system in (writing, choosing))
    if to_writing is None or to_choosing is None or outcome(to_writing) != "better":
        return ""
    if outcome(to_choosing) != "better":
        return _only_format(to_writing, choosing, to_choosing)
    format_share = to_writing.difference - to_choosing.difference
    if format_share <= 0:
        return "The gain is in the task: the untuned model does no better when it only has to choose among the labels."
    whole, of_format, of_task = (
        number_text(primary, x) for x in (to_writing.difference, format_share, to_choosing.difference)
    )
    return (
        f"Of the gain of {whole} over {writing.name}, {of_format} is the format of the answer (the untuned model gains "
        f"as much by choosing among the labels); {of_task} is the task."
    )


def _only_format(to_writing: Comparison, choosing: SystemResult, to_choosing: Comparison) -> str:
    does = "does better" if outcome(to_choosing) == "worse" else "does as well"
    value = number_text(to_writing.metric, choosing.metrics[to_writing.metric].value)
    return (
        f"Tuning beats {to_writing.b} ({difference_text(to_writing)}), but what it taught is the format of the answer "
        f"and not, detectably, the task: the untuned model {does} when it only chooses among the labels ({value})."
    )
