"""Do 95 % intervals hold what they say? `coverage.py [--draws N]`; writes docs/proof/coverage.md.

From a large population of rows whose value is known, samples are drawn again and again; counted is how often the stated
interval holds the population's value, as it should in 95 of 100 cases.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from luthier.score.closed import macro_f1
from luthier.score.intervals import estimate
from luthier.score.paired import compare
from luthier.score.perplexity import perplexity
from luthier.score.scores import Scores, mean_scores

PAGE = Path(__file__).parents[1] / "docs" / "proof" / "coverage.md"
POPULATION = 20_000
RESAMPLES = 1000
HELD = (0.93, 0.97)
Sample = Callable[[np.ndarray], Scores]


def main() -> None:
    """Count, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    rows = list(measured(options.draws))
    held = sum(HELD[0] <= share <= HELD[1] for _, _, share in rows)
    lines = [
        "# How often the stated 95 % intervals hold the true value",
        "",
        f"{held} of {len(rows)} lie within 93 to 97 %; {options.draws:,} samples each from a population of "
        f"{POPULATION:,} rows, {RESAMPLES:,} resamples per interval. `python bench/coverage.py` writes this page.",
        "",
        "| interval | held-out rows | coverage |",
        "|---|---|---|",
        *(f"| {name} | {size} | {share:.1%} |" for name, size, share in rows),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def measured(draws: int) -> Iterator[tuple[str, int, float]]:
    """Yield (interval, rows, coverage)."""
    generator = np.random.default_rng(3)
    for size in (100, 200, 400):
        for name, take in values(generator):
            yield name, size, covered(take, size, draws)
        for name, a, b in pairs(generator):
            yield name, size, covered_difference(a, b, size, draws)


def values(generator: np.random.Generator) -> Iterator[tuple[str, Sample]]:
    """Yield populations of one system, each as a function from row numbers to scores."""
    for share in (0.5, 0.8, 0.95):
        right = generator.random(POPULATION) < share
        yield f"accuracy of {share:g} (Wilson)", lambda rows, right=right: accuracy(right[rows])
    overlap = generator.beta(0.8, 1.4, POPULATION)
    yield "ROUGE-L, skewed (bootstrap)", lambda rows: mean_scores("rouge_l", overlap[rows].tolist())
    losses, tokens = generator.gamma(4, 8, POPULATION), generator.integers(5, 60, POPULATION)
    yield "perplexity (bootstrap)", lambda rows: perplexity(losses[rows].tolist(), tokens[rows].tolist())
    labels = np.array(["a", "b", "c"])
    truth = labels[generator.choice(3, POPULATION, p=[0.5, 0.3, 0.2])]
    said = np.where(generator.random(POPULATION) < 0.7, truth, labels[generator.integers(0, 3, POPULATION)])
    yield (
        "macro-F1 of three labels (bootstrap)",
        lambda rows: macro_f1(said[rows].tolist(), truth[rows].tolist(), labels.tolist()),
    )


def pairs(generator: np.random.Generator) -> Iterator[tuple[str, Sample, Sample]]:
    """Yield two systems on the same rows."""
    hard = generator.random(POPULATION)
    for low, high in ((0.6, 0.7), (0.8, 0.8)):
        a, b = ((hard + 0.4 * generator.random(POPULATION)) / 1.4 < share for share in (high, low))
        name = f"difference of accuracies, about {low:g} and {high:g} (Newcombe)"
        yield name, lambda rows, a=a: accuracy(a[rows]), lambda rows, b=b: accuracy(b[rows])
    base = generator.beta(0.8, 1.4, POPULATION)
    other = np.clip(base + generator.normal(0.03, 0.15, POPULATION), 0, 1)
    yield (
        "difference of ROUGE-L (paired bootstrap)",
        lambda rows: mean_scores("rouge_l", other[rows].tolist()),
        lambda rows: mean_scores("rouge_l", base[rows].tolist()),
    )


def accuracy(right: np.ndarray) -> Scores:
    """Return the scores of rows that are right or wrong."""
    return mean_scores("accuracy", right.astype(float).tolist())


def covered(take: Sample, size: int, draws: int) -> float:
    """Return how often a sample's interval holds the population's value."""
    true = take(np.arange(POPULATION)).value
    generator, inside = np.random.default_rng(size), 0
    for draw in range(draws):
        found = estimate(take(generator.integers(0, POPULATION, size)), resamples=RESAMPLES, seed=draw)
        inside += found.low <= true <= found.high
    return inside / draws


def covered_difference(a: Sample, b: Sample, size: int, draws: int) -> float:
    """Return how often the interval of a sample's difference holds the population's."""
    everyone = np.arange(POPULATION)
    true = a(everyone).value - b(everyone).value
    generator, inside = np.random.default_rng(size), 0
    for draw in range(draws):
        rows = generator.integers(0, POPULATION, size)
        found = compare(a(rows), b(rows), names=("a", "b"), resamples=RESAMPLES, seed=draw)
        inside += found.low <= true <= found.high
    return inside / draws


if __name__ == "__main__":
    main()
