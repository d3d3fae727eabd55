"""A made-up evaluation with everything in it, and with hostile answers."""

import functools
from pathlib import Path

from luthier.core.artifacts import Report, SystemResult
from luthier.evaluate.conclusion import conclusion
from luthier.evaluate.curves import Curves
from luthier.evaluate.sample import Sample, SampleAnswer
from luthier.score import closed
from luthier.score.intervals import estimate
from luthier.score.metrics import score
from luthier.score.paired import compare
from luthier.score.perplexity import perplexity
from luthier.score.scores import Scores

LABELS = ("negative", "neutral", "positive")
ROWS = 60
HOSTILE = "positive </pre><script>alert('x')</script>\n```\n| <img src=x onerror=y> [a](javascript:b)"
RIGHT = {
    "zero-shot": 0.35,
    "few-shot": 0.5,
    "zero-shot (label-scored)": 0.45,
    "few-shot (label-scored)": 0.55,
    "tuned": 0.9,
    "tuned (label-scored)": 0.9,
}
"""Share of right answers by system."""
METRICS = ("accuracy", "macro_f1", "format_followed")
FACTS = {"base model": "smollm2-135m-instruct", "data": "tones.jsonl (1,200 rows)", "seed": "7", "note": "a | b <i>"}
CURVES = Curves(
    loss=tuple((step, 2.0 / step + 0.3) for step in range(1, 41)),
    validation_loss=((10, 0.9), (20, 0.6), (30, 0.5), (40, 0.52)),
    learning_rate=tuple((step, 1e-4 * min(step / 4, 1)) for step in range(1, 41)),
    grad_norm=tuple((step, 1 + 1 / step) for step in range(1, 41)),
    tokens_per_second=tuple((step, 180.0 + step % 7) for step in range(1, 41)),
)


def references() -> list[str]:
    return [LABELS[row * 7 % 3] for row in range(ROWS)]


def answers(system: str) -> list[str]:
    """Return answers of which the given share is right, the same for each call."""
    wrong = ["It is hard to say.", HOSTILE, *LABELS]
    right = [row * 37 % ROWS < RIGHT[system] * ROWS for row in range(ROWS)]
    return [r if ok else wrong[row % len(wrong)] for row, (r, ok) in enumerate(zip(references(), right, strict=True))]


@functools.cache
def scores(system: str) -> dict[str, Scores]:
    measured = {name: score(name, answers(system), references(), LABELS) for name in METRICS}
    if "label-scored" in system:
        del measured["format_followed"]
    else:
        losses = [3 - 2 * RIGHT[system] + row % 5 / 10 for row in range(ROWS)]
        measured["perplexity"] = perplexity(losses, [2] * ROWS)
    return measured


def result(system: str) -> SystemResult:
    return SystemResult(
        name=system,
        metrics={name: estimate(one, resamples=300, seed=1) for name, one in scores(system).items()},
        prompt_tokens=310.4 if "few" in system else 62.25,
        latency_s=0.41,
        stops_share=0.98,
        confusion=closed.confusion(answers(system), references(), LABELS),
    )


def report(folder: Path = Path("evaluate"), systems: tuple[str, ...] = tuple(RIGHT)) -> Report:
    results = [result(system) for system in systems]
    pairs = [(name, metric) for name in systems if not name.startswith("tuned") for metric in scores(name)]
    comparisons = [
        compare(scores("tuned")[metric], scores(name)[metric], names=("tuned", name), resamples=300, seed=1)
        for name, metric in pairs
        if "tuned" in systems
    ]
    return Report(
        folder=folder,
        systems=results,
        comparisons=comparisons,
        primary_metric="accuracy",
        test_rows=ROWS,
        conclusion=conclusion(results, comparisons, "accuracy"),
    )


def samples() -> list[Sample]:
    read = {system: closed.read_labels(answers(system), LABELS) for system in RIGHT}
    return [
        Sample(
            row=f"tones.jsonl:{row + 1}",
            prompt=f"Which tone has this text?\n\nText {row} <b>&amp;",
            reference=references()[row],
            answers={
                system: SampleAnswer(
                    text=answers(system)[row],
                    scores={name: float(one.per_row[row]) for name, one in scores(system).items()},
                    label=read[system][row],
                )
                for system in RIGHT
            },
        )
        for row in range(ROWS)
    ]
