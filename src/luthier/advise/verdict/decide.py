"""Decide: the cheapest alternative that no dearer one detectably beats by what is worth while."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from luthier.advise.verdict.curve import Gain
from luthier.core.artifacts import Comparison, Family
from luthier.score.names import TITLES, lower_is_better
from luthier.score.paired import compare_over_seeds
from luthier.score.scores import Scores
from luthier.score.verdict import SIGNIFICANCE, difference_text, in_words, number_text, outcome

Choice = Literal["prompt", "few-shot", "retrieve", "head", "tune", "tune + retrieve", "data"]
ORDER: tuple[Family, ...] = get_args(Family)
TUNED: tuple[Family, ...] = ("tune", "tune + retrieve")
FEWEST_ROWS = 20
"""With fewer held-out rows even a difference of 30 points is usually not seen."""
POWER_FACTOR = (1.959964 + 0.841621) ** 2
"""For a two-sided test at 0.05 that finds a difference in 80 % of cases (Connor 1987 for paired shares)."""
USUAL_DISCORDANT = 0.3
"""Share of rows on which two systems usually differ, where none were measured."""


@dataclass(frozen=True, eq=False)
class Measured:
    """An alternative and how it scored on the held-out rows."""

    name: str
    family: Family
    scores: Scores
    prompt_tokens: float = 0.0
    again: tuple[Scores, ...] = ()
    """How it scored after trainings with other seeds, on the same rows."""

    @property
    def value(self) -> float:
        """The mean over the trainings."""
        return statistics.fmean(one.value for one in (self.scores, *self.again))


@dataclass(frozen=True)
class Verdict:
    """What to do, and the numbers that it stands on."""

    choice: Choice
    chosen: str
    """The alternative's name."""
    reasons: tuple[str, ...]
    sensitivity: tuple[str, ...]
    """What would change it."""
    comparisons: tuple[Comparison, ...]
    """The paired tests behind the reasons, in their order."""


@dataclass(frozen=True)
class Test:
    """How differences are tested, and which ones matter."""

    __test__ = False
    worthwhile: float
    """The smallest difference worth a dearer alternative, in the metric's unit."""
    resamples: int
    seed: int

    def of(self, a: Measured, b: Measured) -> Comparison:
        """Compare two alternatives row by row; where either was trained with several seeds, over these too."""
        if b.again and not a.again:
            return _turned(self.of(b, a))
        ours, names = [a.scores, *a.again], (a.name, b.name)
        return compare_over_seeds(ours, b.scores, names=names, resamples=self.resamples, seed=self.seed)

    def beats(self, comparison: Comparison) -> bool:
        """Say whether a is detectably better than b, and by enough."""
        return outcome(comparison) == "better" and abs(comparison.difference) >= self.worthwhile


def decide(measured: Sequence[Measured], gain: Gain | None, test: Test, *, whole: Gain | None = None) -> Verdict:
    """Walk from the cheapest to the dearest kind of alternative, and go on only where the next is worth it.

    `gain` is what more rows than there are would bring tuning, `whole` what the rows would that its pilot left out.
    """
    best = _best_of_each(measured)
    floor = next((one for one in best if one.family == "trivial"), None)
    rivals = [one for one in best if one is not floor]
    if not rivals:
        raise ValueError("there is no alternative to decide between")
    reasons, comparisons = [], []
    current = rivals[0]
    for dearer in rivals[1:]:
        comparison = test.of(dearer, current)
        comparisons.append(comparison)
        reasons.append(_step(comparison, test))
        if test.beats(comparison):
            current = dearer
    choice: Choice = _choice(current.family)
    if floor is not None and not _is_above(current, floor, test, comparisons, reasons):
        above = _surely_above(current, floor, rivals, test, comparisons, reasons)
        choice = _choice(above.family) if above else "data"
        current = above or current
    sensitivity = _sensitivity(current, rivals, gain, test)
    if current.family not in TUNED and whole and _would_win(current, rivals, whole, test, by=whole.value):
        tuned = next(one for one in rivals if one.family == "tune")
        reasons.append(f"on all rows tuning is expected to be the better choice: {_gain_text(whole, tuned)}")
        current, choice = tuned, "tune"
    elif (
        choice != "data"
        and current.family not in TUNED
        and gain
        and _would_win(current, rivals, gain, test, by=gain.low)
    ):
        choice = "data"
        reasons.append(f"more rows are expected to make tuning the better choice: {_gain_text(gain, current)}")
    return Verdict(choice, current.name, tuple(reasons), tuple(sensitivity), tuple(comparisons))


def rows_needed(difference: float, discordant: float = USUAL_DISCORDANT) -> int:
    """Return how many held-out rows show a difference of two shares in 80 % of cases (Connor 1987)."""
    spread = max(discordant, difference) - difference**2
    return max(FEWEST_ROWS, math.ceil(POWER_FACTOR * spread / difference**2))


def _best_of_each(measured: Sequence[Measured]) -> list[Measured]:
    """Return the best alternative of each family in the order of their costs; of equals the one of fewer tokens."""

    def rank(one: Measured) -> tuple[float, float]:
        sign = 1 if lower_is_better(one.scores.metric) else -1
        return sign * one.value, one.prompt_tokens

    of = {family: [one for one in measured if one.family == family] for family in ORDER}
    return [min(ones, key=rank) for ones in of.values() if ones]


def _choice(family: Family) -> Choice:
    if family == "trivial":
        raise ValueError("the trivial answer is nothing to choose")
    return family


def _step(comparison: Comparison, test: Test) -> str:
    words = {
        "better": f"{comparison.a} beats {comparison.b}",
        "none": f"{comparison.a} is not detectably better than {comparison.b}",
        "worse": f"{comparison.a} is worse than {comparison.b}",
    }
    over = f" over {comparison.seeds} trainings" if comparison.seeds > 1 else ""
    said = f"{words[outcome(comparison)]}: {difference_text(comparison)}{over}"
    if outcome(comparison) == "better" and not test.beats(comparison):
        said += f"; less than the {number_text(comparison.metric, test.worthwhile)} that is worth its cost"
    return said


def _turned(one: Comparison) -> Comparison:
    """Return the same comparison seen from the other side."""
    turned = one.model_copy(
        update={
            "a": one.b,
            "b": one.a,
            "difference": -one.difference,
            "low": -one.high,
            "high": -one.low,
            "won": one.lost,
            "lost": one.won,
        }
    )
    return turned.model_copy(update={"verdict": in_words(turned)})


def _is_above(one: Measured, floor: Measured, test: Test, comparisons: list[Comparison], reasons: list[str]) -> bool:
    comparison = test.of(one, floor)
    comparisons.append(comparison)
    if outcome(comparison) == "better":
        return True
    reasons.append(
        f"{one.name} is not detectably better than {floor.name}: {difference_text(comparison)}; "
        "either the answers cannot be told from the prompts, or there are too few rows to learn it"
    )
    return False


def _surely_above(
    current: Measured,
    floor: Measured,
    rivals: Sequence[Measured],
    test: Test,
    comparisons: list[Comparison],
    reasons: list[str],
) -> Measured | None:
    """Return the cheapest dearer alternative that is above the floor and not seen to be worse, or None.

    Several are looked at, each of which could be above by chance, so each must be as much surer (Bonferroni).
    """
    dearer = [one for one in rivals if ORDER.index(one.family) > ORDER.index(current.family)]
    for one in dearer:
        comparison = test.of(one, floor)
        sure = outcome(comparison) == "better" and comparison.p * len(dearer) < SIGNIFICANCE
        if sure and outcome(test.of(one, current)) != "worse":
            comparisons.append(comparison)
            reasons.append(f"{one.name} is above {floor.name}, surely: {difference_text(comparison)}")
            return one
    return None


def _would_win(current: Measured, rivals: Sequence[Measured], gain: Gain, test: Test, *, by: float) -> bool:
    """Say whether more rows would detectably help tuning, and by so much that it is the better choice.

    Rows that are there cost nothing but time, so what is expected of them decides; for rows that are yet to be had,
    what is sure.
    """
    tuned = next((one for one in rivals if one.family == "tune"), None)
    if tuned is None or lower_is_better(tuned.scores.metric):
        return False
    return gain.low > 0 and tuned.value + by >= current.value + test.worthwhile


def _sensitivity(current: Measured, rivals: Sequence[Measured], gain: Gain | None, test: Test) -> list[str]:
    """Say what would change the verdict: each open comparison, the size that counts, and more rows."""
    metric = current.scores.metric
    said = []
    for other in rivals:
        if other is current:
            continue
        comparison = test.of(other, current)
        reach = comparison.low if lower_is_better(metric) else comparison.high
        if outcome(comparison) == "none" and abs(reach) >= test.worthwhile:
            rows = rows_needed(max(abs(comparison.difference), test.worthwhile), _discordant(comparison, current))
            said.append(
                f"would change to {other.name} if its true difference to {current.name} were near the end of its "
                f"interval ({difference_text(comparison)}); about {rows:,} held-out rows would tell"
            )
        elif outcome(comparison) == "better" and not test.beats(comparison):
            said.append(f"would change to {other.name} if a difference of {abs(comparison.difference):.3g} mattered")
    if current.family != "prompt":
        cheaper = next((one for one in rivals if ORDER.index(one.family) < ORDER.index(current.family)), None)
        if cheaper is not None:
            lead = abs(test.of(current, cheaper).difference)
            said.append(
                f"would change to {cheaper.name} if only differences above {number_text(metric, lead)} were worth "
                f"the cost of {current.name}"
            )
    if gain is not None:
        said.append(_gain_text(gain, current))
    return said


def _discordant(comparison: Comparison, current: Measured) -> float:
    return (comparison.won + comparison.lost) / max(1, current.scores.rows) or USUAL_DISCORDANT


def _gain_text(gain: Gain | None, current: Measured) -> str:
    if gain is None:
        return ""
    metric = current.scores.metric
    value, low, high = (_signed(metric, x) for x in (gain.value, gain.low, gain.high))
    times = "twice the rows" if gain.times == 2 else f"{gain.times:g} times the rows"
    return f"{times} would bring tuning {value} {TITLES[metric]} ({low} … {high}), as its last doubling suggests"


def _signed(metric: str, value: float) -> str:
    return ("−" if value < 0 else "+") + number_text(metric, abs(value))
