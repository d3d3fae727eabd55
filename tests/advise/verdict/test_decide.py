"""The verdict is the cheapest alternative that no dearer one detectably beats by what is worth while."""

import numpy as np
import pytest

from luthier.advise.verdict.curve import Gain, Point, extrapolate
from luthier.advise.verdict.decide import Measured, Test, decide, rows_needed
from luthier.score.scores import Scores, mean_scores

ROWS = 400
TEST = Test(worthwhile=0.02, resamples=500, seed=1)


def right(share: float, *, seed: int = 0, shared: float = 0.7) -> Scores:
    """Return accuracies that agree on most rows, as systems do: hard rows are hard for all."""
    hardness = np.random.default_rng(99).random(ROWS)
    own = np.random.default_rng(seed).random(ROWS)
    mixed = np.argsort(np.argsort(shared * hardness + (1 - shared) * own)) / ROWS
    return mean_scores("accuracy", (mixed < share).astype(float).tolist())


def systems(**shares: float) -> list[Measured]:
    families = {"tune_retrieve": "tune + retrieve", "few_shot": "few-shot"}
    return [
        Measured(name, families.get(name, name), right(share, seed=number), prompt_tokens=10.0 * number)
        for number, (name, share) in enumerate(shares.items())
    ]


@pytest.mark.parametrize(
    ("shares", "choice"),
    [
        ({"trivial": 0.4, "prompt": 0.6, "few_shot": 0.6, "tune": 0.61}, "prompt"),
        ({"trivial": 0.4, "prompt": 0.5, "few_shot": 0.75, "tune": 0.76}, "few-shot"),
        ({"trivial": 0.4, "prompt": 0.5, "few_shot": 0.6, "tune": 0.85}, "tune"),
        ({"trivial": 0.4, "prompt": 0.5, "few_shot": 0.6, "head": 0.86, "tune": 0.85}, "head"),
        ({"trivial": 0.3, "prompt": 0.4, "retrieve": 0.7, "tune": 0.55, "tune_retrieve": 0.9}, "tune + retrieve"),
        ({"trivial": 0.4, "prompt": 0.5, "retrieve": 0.8, "tune": 0.6}, "retrieve"),
        ({"trivial": 0.5, "prompt": 0.48, "few_shot": 0.5, "tune": 0.51}, "data"),
        ({"prompt": 0.6, "tune": 0.3}, "prompt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_cheapest_that_nothing_beats(shares: dict[str, float], choice: str) -> None:
    verdict = decide(systems(**shares), None, TEST)
    assert verdict.choice == choice
    assert verdict.reasons and all(any(letter.isdigit() for letter in reason) for reason in verdict.reasons)


@pytest.mark.parametrize(("head", "choice"), [(0.515, "head"), (0.465, "data")])
def test_where_the_choice_is_not_seen_above_the_floor_one_that_surely_is_takes_its_place(head: float, choice: str):
    # The head's lead over few-shot is not worth its cost, but few-shot is not seen to be above the commonest answer.
    verdict = decide(systems(trivial=0.44, prompt=0.3, few_shot=0.47, head=head), None, Test(0.06, 500, 1))
    assert verdict.choice == choice
    assert ("head is above trivial, surely" in verdict.reasons[-1]) == (choice == "head")


def test_a_gain_too_small_to_matter_changes_nothing_and_says_so() -> None:
    measured = systems(prompt=0.60, tune=0.68)
    assert decide(measured, None, TEST).choice == "tune"
    verdict = decide(measured, None, Test(worthwhile=0.2, resamples=500, seed=1))
    assert verdict.choice == "prompt" and any("mattered" in text for text in verdict.sensitivity)


def test_perplexity_is_better_when_smaller() -> None:
    def priced(mean: float, seed: int) -> Scores:
        loss = np.random.default_rng(5).normal(mean, 0.2, ROWS) + np.random.default_rng(seed).normal(0, 0.01, ROWS)
        statistics = np.stack([loss, np.ones(ROWS)], axis=-1)
        return Scores("perplexity", np.exp(loss), statistics, lambda sums: np.exp(sums[..., 0] / sums[..., 1]))

    base, tuned, worse = (
        Measured(n, f, priced(m, i))
        for i, (n, f, m) in enumerate([("prompt", "prompt", 2.5), ("tune", "tune", 2.2), ("bad", "tune", 2.8)])
    )
    assert decide([base, tuned], None, TEST).choice == "tune"
    assert decide([base, worse], None, TEST).choice == "prompt"


def test_more_rows_are_the_advice_where_the_curve_is_steep() -> None:
    points = [Point(100, right(0.40)), Point(200, right(0.62))]
    gain = extrapolate(points, resamples=500, seed=1)
    measured = [Measured("few-shot", "few-shot", right(0.62, seed=7)), Measured("tune", "tune", points[1].scores)]
    verdict = decide(measured, gain, TEST)
    assert verdict.choice == "data" and "twice the rows would bring" in verdict.reasons[-1]
    flat = extrapolate([Point(100, right(0.61)), Point(200, right(0.62))], resamples=500, seed=1)
    assert decide(measured, flat, TEST).choice == "few-shot"


def test_the_same_seed_decides_the_same() -> None:
    measured = systems(trivial=0.4, prompt=0.5, few_shot=0.6, tune=0.63)
    assert decide(measured, None, TEST) == decide(measured, None, TEST)


@pytest.mark.parametrize("rows", [(10,), (43, 44), (100, 140)])
def test_a_curve_without_two_sizes_says_nothing(rows: tuple[int, ...]) -> None:
    points = [Point(count, right(0.3 + 0.1 * place)) for place, count in enumerate(rows)]
    assert extrapolate(points, resamples=500, seed=1) is None


def test_a_curve_is_drawn_on_four_times_at_most() -> None:
    points = [Point(50, right(0.4)), Point(100, right(0.5))]
    far, near = (extrapolate(points, times=times, resamples=500, seed=1) for times in (64.0, 4.0))
    assert far == near and far.times == 4.0


def test_the_gain_of_a_power_law_lies_in_its_interval() -> None:
    def at(rows: int) -> float:
        return 0.9 - 1.2 * rows**-0.3

    inside = 0
    for seed in range(40):
        hard = np.random.default_rng(seed).random(ROWS)
        points = [Point(n, mean_scores("accuracy", (hard < at(n)).astype(float).tolist())) for n in (100, 200, 400)]
        gain = extrapolate(points, resamples=400, seed=seed)
        inside += gain.low <= at(800) - at(400) <= gain.high
    assert inside >= 36


def test_rows_needed_grow_as_the_difference_shrinks() -> None:
    assert rows_needed(0.1) < rows_needed(0.05) < rows_needed(0.02)
    assert 200 < rows_needed(0.1, 0.3) < 300


@pytest.mark.parametrize(
    ("low", "mean", "choice"),
    [
        (0.01, 0.10, "tune"),
        # Sure to rise, and not by enough; likely enough, and not sure to rise at all.
        (0.01, 0.03, "few-shot"),
        (-0.01, 0.10, "few-shot"),
    ],
)
def test_what_the_rows_at_hand_are_expected_to_bring_decides(low: float, mean: float, choice: str) -> None:
    measured = systems(trivial=0.2, prompt=0.4, few_shot=0.60, tune=0.56)
    whole = Gain(times=4.0, value=mean, low=low, high=0.2, points=2)
    verdict = decide(measured, None, TEST, whole=whole)
    assert verdict.choice == choice
    assert ("on all rows tuning is expected" in " ".join(verdict.reasons)) == (choice == "tune")


def test_rows_that_are_yet_to_be_had_must_be_sure_to_pay() -> None:
    measured = systems(trivial=0.2, prompt=0.4, few_shot=0.60, tune=0.56)
    expected, sure = (Gain(times=2.0, value=0.10, low=low, high=0.2, points=2) for low in (0.01, 0.08))
    assert decide(measured, expected, TEST).choice == "few-shot"
    assert decide(measured, sure, TEST).choice == "data"
