"""Agreement: who wins a series of judged pairs, and how far judges agree beyond chance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.artifacts import Estimate
from luthier.score.intervals import wilson
from luthier.score.paired import mcnemar


@dataclass(frozen=True)
class Tally:
    """Pairs won, lost and tied by the first of two systems."""

    won: int
    lost: int
    tied: int

    @property
    def win_rate(self) -> Estimate | None:
        """The share won of the pairs that have a winner, with Wilson's 95 % interval; None without any."""
        decided = self.won + self.lost
        if not decided:
            return None
        low, high = wilson(self.won, decided)
        return Estimate(value=self.won / decided, low=low, high=high, n=decided)

    @property
    def p(self) -> float:
        """The two-sided sign test of "either wins as often", ties left out; 1 where no pair has a winner."""
        return mcnemar(self.won, self.lost)


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Return Cohen's kappa (1960) of two judges over the same rows: 1 is full agreement, 0 what chance would give.

    None where it is not defined: without rows, or where both judges say one and the same on all.
    """
    rows = len(first)
    agreed = sum(a == b for a, b in zip(first, second, strict=True))
    of_first, of_second = Counter(first), Counter(second)
    by_chance = sum(of_first[word] * of_second[word] for word in of_first)
    if by_chance == rows * rows:
        return None
    return (agreed * rows - by_chance) / (rows * rows - by_chance)


def majority(choices: Sequence[str], *, otherwise: str) -> str:
    """Return what more than half of the judges chose."""
    choice, count = Counter(choices).most_common(1)[0]
    return choice if 2 * count > len(choices) else otherwise
