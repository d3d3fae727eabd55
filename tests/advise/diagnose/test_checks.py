"""The rules of the diagnosis on made-up evidence: on both sides of each threshold, and with parts missing."""

import math
import random
from dataclasses import replace

import pytest

from luthier.advise.diagnose import curve as curves
from luthier.advise.diagnose.checks import CHECKS, examine
from luthier.advise.diagnose.evidence import (
    Answered,
    BaseMatch,
    Curve,
    Data,
    Evidence,
    Judged,
    Overlap,
    Rendered,
    Settings,
    Splits,
    Weights,
)
from luthier.advise.diagnose.finding import Finding
from luthier.recipe_io.read import recipe_from

SETTINGS = Settings(
    learning_rate=2e-4,
    usual_rate=2e-4,
    warmup=0.1,
    max_grad_norm=1.0,
    batch_size=16,
    epochs=3.0,
    steps=None,
    rank=16,
    keep_best=True,
    micro_batch_tokens=1024,
    gradient_checkpointing=False,
)
STEPS = 100


def falling(step: float) -> float:
    """A loss that falls from 3 to 1 and arrives."""
    return 1 + 2 * math.exp(-step / 15)


def made(loss=falling, validation=falling, *, steps: int = STEPS, planned: int = STEPS) -> Curve:
    draw = random.Random(0)
    return Curve(
        planned=planned,
        loss=tuple((step, loss(step) + draw.gauss(0, 0.05)) for step in range(1, steps + 1)),
        validation=tuple((step, validation(step)) for step in range(0, steps + 1, 10)),
        grad_norm=tuple((step, 0.5) for step in range(1, steps + 1)),
        wait_share=0.01,
        memory_share=0.5,
    )


DATA = Data(
    rows=1000,
    kind="closed",
    limit=512,
    context=2048,
    longest=400,
    cut=(),
    too_long=(),
    no_target=(),
    only_last=0,
    target_tokens=2000,
    total_tokens=100_000,
    conflicts=(),
    conflict_groups=0,
)
LABELS = ("a", "b", "c")


def judged(rows: int = 100, wrong: int = 0, trust: float = 0.9) -> tuple[Judged, ...]:
    rest = (1 - trust) / 2
    found = []
    for i in range(rows):
        said = LABELS[i % 3]
        given = LABELS[(i + 1) % 3] if i < wrong else said
        found.append(Judged(f"r.jsonl:{i}", given, {label: trust if label == said else rest for label in LABELS}))
    return tuple(found)


HEALTHY = Evidence(
    settings=SETTINGS,
    curve=made(),
    data=DATA,
    splits=Splits(held_out=200, overlaps=(), ends_share=1.0),
    judged=judged(),
    rendered=(Rendered("the base model", 32, 0),),
    answered=Answered(rows=100, stops_share=1.0, limit=16),
    weights=Weights(place="the final weights", tensors=28, still=(), not_finite=()),
    base=BaseMatch(name="m", trained_on="1" * 64, now="1" * 64, adapter_base="m"),
)


def found(evidence: Evidence) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(evidence).findings}


def with_curve(**changes) -> Evidence:
    return replace(HEALTHY, curve=replace(HEALTHY.curve, **changes))


def with_data(**changes) -> Evidence:
    return replace(HEALTHY, data=replace(DATA, **changes))


def rows(count: int) -> tuple[str, ...]:
    return tuple(f"r.jsonl:{i}" for i in range(count))


def spiked(*steps: int) -> Curve:
    curve = made()
    return replace(curve, loss=tuple((step, loss + 3 * (step in steps)) for step, loss in curve.loss))


def overfit(rise: float) -> Curve:
    return made(validation=lambda step: falling(step) + max(0, step - 50) / 50 * rise)


def climbing(height: float) -> Curve:
    return made(loss=lambda step: falling(step) + height * (50 <= step < 65))


def straight(fall: float) -> Curve:
    return made(lambda step: 3 - fall * step / STEPS, lambda step: 3 - fall * step / STEPS)


SLOW = replace(SETTINGS, learning_rate=2e-5)
# Of each problem: evidence just beyond its threshold, and evidence just below it.
CASES: dict[str, tuple[Evidence, Evidence]] = {
    "overfitting": (
        replace(HEALTHY, curve=overfit(0.3)),
        replace(HEALTHY, curve=overfit(0.08)),
    ),
    "underfitting": (
        replace(HEALTHY, curve=straight(1.5)),
        replace(HEALTHY, curve=made(lambda s: 1 + 2 * math.exp(-s / 30), lambda s: 1 + 2 * math.exp(-s / 30))),
    ),
    "learning-rate-too-high": (replace(HEALTHY, curve=climbing(1.2)), replace(HEALTHY, curve=climbing(0.3))),
    "learning-rate-too-low": (
        replace(HEALTHY, curve=straight(0.3), settings=SLOW),
        replace(HEALTHY, settings=SLOW),
    ),
    "divergence": (
        replace(HEALTHY, curve=made(lambda s: 3 + s / 100, lambda s: 3 + s / 100)),
        replace(HEALTHY, curve=made(lambda s: 3 + s / 1000, lambda s: 3 + s / 1000)),
    ),
    "loss-spikes": (replace(HEALTHY, curve=spiked(40)), HEALTHY),
    "bad-labels": (replace(HEALTHY, judged=judged(wrong=5)), replace(HEALTHY, judged=judged(wrong=2))),
    "conflicting-labels": (
        with_data(conflicts=(rows(6), rows(4)), conflict_groups=2),
        with_data(conflicts=(rows(9),), conflict_groups=1),
    ),
    "template-mismatch": (replace(HEALTHY, rendered=(Rendered("export/merged", 32, 1, "x"),)), HEALTHY),
    "never-stops": (
        replace(HEALTHY, answered=Answered(100, 0.89, 16)),
        replace(HEALTHY, answered=Answered(100, 0.9, 16)),
    ),
    "truncated-rows": (with_data(too_long=rows(10), longest=900), with_data(too_long=rows(9), longest=900)),
    "leakage": (
        replace(HEALTHY, splits=Splits(200, (Overlap("a:1", "a:2"), Overlap("a:3", "a:4")), 1.0)),
        replace(HEALTHY, splits=Splits(200, (Overlap("a:1", "a:2"),), 1.0)),
    ),
    "too-few-target-tokens": (with_data(target_tokens=499), with_data(target_tokens=500)),
    "dead-tensors": (replace(HEALTHY, weights=Weights("x", 28, ("layers.0.lora_B.weight",), ())), HEALTHY),
    "data-bound": (with_curve(wait_share=0.11, waited_s=2.0), with_curve(wait_share=0.11, waited_s=1.9)),
    "memory-bound": (with_curve(memory_share=0.96), with_curve(memory_share=0.95)),
    "wrong-base": (replace(HEALTHY, base=BaseMatch("m", "1" * 64, "2" * 64, "m")), HEALTHY),
}


def test_every_check_has_a_case_and_a_healthy_run_has_no_finding() -> None:
    assert set(CASES) == {check.name for check in CHECKS}
    verdicts = examine(HEALTHY)
    assert not verdicts.findings and not verdicts.not_checked and len(verdicts.healthy) == len(CHECKS)


@pytest.mark.parametrize("name", CASES)
def test_beyond_the_threshold_it_is_found_and_below_it_is_not(name: str) -> None:
    beyond, below = CASES[name]
    assert set(found(beyond)) == {name}
    assert not found(below)


@pytest.mark.parametrize("name", CASES)
def test_a_finding_says_what_it_stands_on_and_its_patch_is_a_recipe(name: str) -> None:
    finding = found(CASES[name][0])[name]
    assert 0.5 <= finding.confidence <= 0.99 and finding.what and finding.remedy
    assert any(character.isdigit() for line in finding.evidence for character in line)
    words = [f"{path}={'null' if value is None else str(value).lower()}" for path, value in finding.patch.items()]
    assert recipe_from({"data": {"path": "rows.jsonl"}}, words)


@pytest.mark.parametrize("part", ["settings", "curve", "data", "splits", "judged", "rendered", "weights", "base"])
def test_what_is_missing_is_said_and_never_taken_for_health(part: str) -> None:
    verdicts = examine(replace(HEALTHY, **{part: None}, missing={part: "it lies elsewhere"}))
    needing = {check.name for check in CHECKS if part in check.needs}
    assert {check.name for check in verdicts.not_checked} == needing and needing
    assert {check.why for check in verdicts.not_checked} == {"it lies elsewhere"}
    assert not needing & set(verdicts.healthy)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_rule_without_its_evidence_finds_nothing(check) -> None:
    assert check.rule(Evidence()) is None and check.ready(Evidence()) is None


def test_a_short_curve_and_an_unfinished_run_are_not_judged() -> None:
    short = {check.name for check in examine(replace(HEALTHY, curve=made(steps=19, planned=19))).not_checked}
    assert short >= {"divergence", "loss-spikes", "learning-rate-too-high", "underfitting"}
    unfinished = examine(replace(HEALTHY, curve=made(straight_loss, straight_loss, steps=60)))
    assert {check.name for check in unfinished.not_checked} == {"underfitting", "learning-rate-too-low"}
    assert "step 60 of 100" in unfinished.not_checked[0].why


def straight_loss(step: float) -> float:
    return 3 - step / STEPS


def test_a_step_that_is_no_number_is_divergence_however_short_the_run() -> None:
    broken = replace(made(steps=3), broken="step 4: the loss is nan, rows r.jsonl:7")
    finding = found(replace(HEALTHY, curve=broken))["divergence"]
    assert "r.jsonl:7" in finding.evidence[0] and finding.patch["train.learning_rate"] == pytest.approx(2e-5)


def test_spikes_are_the_steps_that_jump_and_name_their_rows() -> None:
    curve = replace(spiked(30, 70), rows_of={30: "r.jsonl:1, r.jsonl:2"})
    assert [step for step, _ in curves.spikes(curve)] == [30, 70]
    evidence = found(replace(HEALTHY, curve=curve))["loss-spikes"].evidence
    assert evidence[0] == "2 of 100 steps" and any("rows r.jsonl:1, r.jsonl:2" in line for line in evidence)


def test_suspected_labels_are_named_with_both_probabilities() -> None:
    finding = found(replace(HEALTHY, judged=judged(wrong=5)))["bad-labels"]
    assert finding.evidence[0] == "5 of 100 held-out rows (5.0%)"
    assert "r.jsonl:0: given 'b' (5.0%), the model says 'a' (90.0%)" in finding.evidence


def test_an_unsure_model_does_not_judge_labels() -> None:
    verdicts = examine(replace(HEALTHY, judged=judged(wrong=10, trust=0.5)))
    assert "bad-labels" in {check.name for check in verdicts.not_checked}


def test_free_answers_may_differ_and_pairs_have_no_one_answer() -> None:
    conflicts = {"conflicts": (rows(50),), "conflict_groups": 1}
    assert not found(with_data(kind="free", **conflicts)) and not found(with_data(kind="pair", **conflicts))
    assert "conflicting-labels" in found(with_data(kind="json", **conflicts))


def test_more_room_goes_as_far_as_the_context() -> None:
    longer = found(with_data(too_long=rows(20), longest=900))["truncated-rows"].patch
    assert longer == {"data.max_tokens": 900}
    beyond = found(with_data(cut=rows(20), longest=9000))["truncated-rows"].patch
    assert beyond == {"data.max_tokens": 2048, "data.too_long": "drop"}


def test_steps_are_changed_where_steps_are_set() -> None:
    by_steps = replace(SETTINGS, steps=100, epochs=None)
    longer = found(replace(HEALTHY, curve=straight(1.5), settings=by_steps))["underfitting"].patch
    assert longer["train.steps"] == 200 and "train.epochs" not in longer
    shorter = found(replace(HEALTHY, curve=overfit(0.5), settings=by_steps))["overfitting"].patch
    assert shorter["train.steps"] < 100
