"""Duels: the test rows on which the tuned model did better than a baseline, and worse."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.evaluate.conclusion import TUNED
from luthier.evaluate.sample import Sample
from luthier.score.names import lower_is_better

SHOWN = 20
LONGEST = 3000


@dataclass(frozen=True)
class Duels:
    """Rows won and lost against one baseline, the clearest first; at most 20 of each."""

    baseline: str
    won: list[Sample]
    lost: list[Sample]
    won_count: int
    lost_count: int


def duels(samples: Sequence[Sample], baseline: str, metric: str) -> Duels:
    """Sort the rows that both systems answered by how much better the tuned one scored."""
    gains = [(gain, sample) for sample in samples if (gain := _gain(sample, baseline, metric)) is not None]
    won = sorted((pair for pair in gains if pair[0] > 0), key=lambda pair: -pair[0])
    lost = sorted((pair for pair in gains if pair[0] < 0), key=lambda pair: pair[0])
    first_won, first_lost = ([sample for _, sample in pairs[:SHOWN]] for pairs in (won, lost))
    return Duels(baseline, first_won, first_lost, len(won), len(lost))


def _gain(sample: Sample, baseline: str, metric: str) -> float | None:
    scores = [sample.answers[name].scores.get(metric) for name in (TUNED, baseline) if name in sample.answers]
    if len(scores) < 2 or None in scores:
        return None
    return (scores[0] - scores[1]) * (-1 if lower_is_better(metric) else 1)


def shortened(text: str) -> str:
    """Return a long text without its middle, saying how much is left out; the end often holds the question."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
