"""Slices: the tuned model's result on parts of the test rows, by label, length of the right answer and language."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from luthier.core.artifacts import Slice
from luthier.evaluate.slices_language import language_of
from luthier.score.intervals import estimate
from luthier.score.names import FROM_LOSSES, lower_is_better, title_of
from luthier.score.scores import Scores
from luthier.score.verdict import estimate_text, number_text

if TYPE_CHECKING:
    from luthier.evaluate.exam import Exam
    from luthier.examples.example import Example

FEWEST_ROWS = 10
"""A slice of fewer rows is shown, but not called the weakest: its interval is not to be trusted."""
MOST_SHOWN = 20
"""Slices of one kind that a report shows; `report.json` has all."""


def slices(scores: Scores, exam: "Exam", *, resamples: int, seed: int) -> list[Slice]:
    """Return the metric on each slice of the rows it was measured on; a kind with only one slice says nothing."""
    places = list(range(len(exam.rows))) if scores.metric in FROM_LOSSES else exam.asked
    found = []
    for kind, names in _kinds(exam, places).items():
        for name in dict.fromkeys(sorted(names)):
            rows = [row for row, its in enumerate(names) if its == name]
            one = estimate(_part(scores, rows), resamples=resamples, seed=seed)
            found.append(Slice(by=kind, name=name[1], metric=scores.metric, estimate=one))
    return _with_weakest(found, scores)


def weakest_text(found: Sequence[Slice], overall: float) -> str:
    """Name the weakest slice in a sentence, or nothing where none is surely below the whole."""
    weak = next((one for one in found if one.weakest), None)
    if weak is None:
        return ""
    reached = f"{title_of(weak.metric)} {estimate_text(weak.metric, weak.estimate)} on {weak.estimate.n} rows"
    return f"Weakest where {weak.by} is “{weak.name}”: {reached}, against {number_text(weak.metric, overall)} over all."


def shown_slices(found: Sequence[Slice]) -> list[Slice]:
    """Return what a report shows: of each kind the 20 weakest at most, in their own order."""
    shown = []
    for kind in dict.fromkeys(one.by for one in found):
        of_kind = [one for one in found if one.by == kind]
        weak = sorted(of_kind, key=lambda one: _badness(one.metric, one.estimate.value))[-MOST_SHOWN:]
        shown += [one for one in of_kind if one in weak]
    return shown


_Name = tuple[int, str]
"""A slice's place among those of its kind, and its name."""


def _kinds(exam: "Exam", places: Sequence[int]) -> dict[str, list[_Name]]:
    """Return the name of each row's slice by kind, for the kinds that part the rows."""
    references = [exam.reference(place) for place in places]
    languages = [language_of(_question(exam.examples[place])) for place in places]
    kinds: Mapping[str, list[_Name]] = {
        "label": [(0, reference.strip()) for reference in references] if exam.labels else [],
        "answer length": [] if exam.labels else _lengths(references),
        "language": [(0, language) for language in languages],
    }
    return {kind: names for kind, names in kinds.items() if len(set(names)) > 1}


def _lengths(references: Sequence[str]) -> list[_Name]:
    """Part the rows into short, middle and long right answers, a third each as far as equal lengths allow."""
    lengths = [len(reference) for reference in references]
    low, high = (int(x) for x in np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf"))
    names = (f"up to {low} characters", f"{low + 1} to {high} characters", f"more than {high} characters")
    return [(place, names[place]) for length in lengths for place in [(length > low) + (length > high)]]


def _question(example: "Example") -> str:
    """Return what is asked: the last message before the answer, or the text before it, or else the text."""
    context = example.context
    if context is None:
        return example.answer
    if context.segments:
        return "".join(segment.text for segment in context.segments)
    return next((message.content for message in reversed(context.messages) if message.role == "user"), "")


def _part(scores: Scores, rows: Sequence[int]) -> Scores:
    return Scores(scores.metric, scores.per_row[list(rows)], scores.statistics[list(rows)], scores.value_of)


def _with_weakest(found: Sequence[Slice], scores: Scores) -> list[Slice]:
    """Mark the worst of those slices whose whole interval is worse than the value over all rows."""
    overall = _badness(scores.metric, scores.value)
    below = [
        one
        for one in found
        if one.estimate.n >= FEWEST_ROWS and min(_badness(one.metric, x) for x in _ends(one)) > overall
    ]
    worst = max(below, key=lambda one: _badness(one.metric, one.estimate.value), default=None)
    return [one.model_copy(update={"weakest": one is worst}) for one in found]


def _ends(one: Slice) -> tuple[float, float]:
    return one.estimate.low, one.estimate.high


def _badness(metric: str, value: float) -> float:
    return value if lower_is_better(metric) else -value
