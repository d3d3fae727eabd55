"""The conclusion is honest whichever way it went."""

import pytest

from luthier.core.artifacts import Comparison, Estimate, SystemResult
from luthier.evaluate.conclusion import best_baseline, conclusion


def system(name: str, value: float, metric: str = "accuracy", n: int = 200) -> SystemResult:
    estimate = Estimate(value=value, low=value - 0.05, high=value + 0.05, n=n)
    return SystemResult(name=name, metrics={metric: estimate}, prompt_tokens=50, latency_s=0.1, stops_share=1)


def against(name: str, difference: float, *, p: float, metric: str = "accuracy") -> Comparison:
    low, high = difference - 0.06, difference + 0.06
    return Comparison(a="tuned", b=name, metric=metric, difference=difference, low=low, high=high, p=p, verdict="")


def test_worth_it() -> None:
    said = conclusion(
        [system("zero-shot", 0.3), system("few-shot", 0.55), system("tuned", 0.81)],
        [against("zero-shot", 0.51, p=1e-9), against("few-shot", 0.26, p=1e-9)],
        "accuracy",
    )
    assert said == (
        "Tuning was worth it: accuracy 0.810 [0.760–0.860] against 0.550 for few-shot, the best baseline; "
        "difference +0.260 [+0.200 to +0.320], p < 0.001 on 200 test rows."
    )


def test_no_detectable_difference_says_what_the_test_could_see() -> None:
    said = conclusion([system("few-shot", 0.8), system("tuned", 0.82)], [against("few-shot", 0.02, p=0.4)], "accuracy")
    assert said.startswith("No detectable difference: accuracy 0.820")
    assert said.endswith("So few rows cannot show a difference smaller than about 0.060.")


def test_worse_is_said() -> None:
    said = conclusion([system("few-shot", 0.9), system("tuned", 0.7)], [against("few-shot", -0.2, p=1e-5)], "accuracy")
    assert said.startswith("Tuning made it worse: accuracy 0.700")
    assert "−0.200" in said


def test_a_test_and_an_interval_that_disagree_detect_nothing() -> None:
    said = conclusion([system("few-shot", 0.7), system("tuned", 0.75)], [against("few-shot", 0.05, p=0.04)], "accuracy")
    assert said.startswith("No detectable difference")


SYSTEMS = [system("few-shot", 0.3), system("few-shot (label-scored)", 0.78), system("tuned", 0.8)]


def test_a_gain_that_label_scoring_closes_is_format() -> None:
    said = conclusion(
        SYSTEMS,
        [against("few-shot", 0.5, p=1e-9), against("few-shot (label-scored)", 0.02, p=0.5)],
        "accuracy",
    )
    assert said.startswith("No detectable difference: accuracy 0.800 [0.750–0.850] against 0.780 for few-shot (label-s")
    assert "Tuning beats few-shot (accuracy +0.500" in said
    assert "what it taught is the format" in said
    assert "does as well when it only chooses among the labels (0.780)" in said


def test_a_gain_is_split_into_format_and_task() -> None:
    systems = [system("few-shot", 0.3), system("few-shot (label-scored)", 0.5), system("tuned", 0.8)]
    compared = [against("few-shot", 0.5, p=1e-9), against("few-shot (label-scored)", 0.3, p=1e-6)]
    said = conclusion(systems, compared, "accuracy")
    assert said.startswith("Tuning was worth it")
    assert "Of the gain of 0.500 over few-shot, 0.200 is the format" in said
    assert said.endswith("0.300 is the task.")


def test_no_format_is_seen_where_label_scoring_does_not_help() -> None:
    systems = [system("few-shot", 0.5), system("few-shot (label-scored)", 0.4), system("tuned", 0.8)]
    compared = [against("few-shot", 0.3, p=1e-9), against("few-shot (label-scored)", 0.4, p=1e-9)]
    assert "The gain is in the task" in conclusion(systems, compared, "accuracy")


def test_lower_perplexity_wins() -> None:
    systems = [system("few-shot", 12.0, "perplexity"), system("zero-shot", 9.0, "perplexity")]
    assert best_baseline(systems, "perplexity").name == "zero-shot"
    systems.append(system("tuned", 4.0, "perplexity"))
    said = conclusion(systems, [against("zero-shot", -5.0, p=0.0005, metric="perplexity")], "perplexity")
    assert said.startswith("Tuning was worth it: perplexity 4.00 [3.95–4.05] against 9.00 for zero-shot")


@pytest.mark.parametrize(
    ("systems", "said"),
    [
        ([], "The tuned model was not measured"),
        ([system("few-shot", 0.5)], "The tuned model was not measured"),
        ([system("tuned", 0.5)], "No baseline was measured"),
        ([system("tuned", 0.5), system("few-shot", 0.5)], "It was not compared with few-shot"),
    ],
)
def test_what_is_missing_is_said(systems: list[SystemResult], said: str) -> None:
    assert said in conclusion(systems, [], "accuracy")


def test_one_row_shows_no_interval() -> None:
    systems = [system("few-shot", 0.0, n=1), system("tuned", 1.0, n=1)]
    said = conclusion(systems, [against("few-shot", 1.0, p=1.0)], "accuracy")
    assert said.startswith("No detectable difference: accuracy 1.000 (one row)")
    assert said.endswith("Fewer than 6 rows cannot show any difference, however large.")
