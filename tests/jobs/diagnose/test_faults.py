"""Faults put into real runs of tiny models are found by their names, and healthy runs have none."""

from pathlib import Path

import pytest
from bench.faults import FAULTS, HEALTHY, Fault, broken_tensor, copied, other_base, other_template, run_with

from luthier.core.artifacts import Report
from luthier.core.runfolder import RunFolder
from luthier.jobs.diagnose.desk import diagnose_run
from luthier.model.tiny import FAMILIES

QUICK = (
    "overfitting",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "divergence",
    "loss-spikes",
    "conflicting-labels",
    "truncated-rows",
    "leakage",
    "dead-tensors",
    "memory-bound",
)
AFTER = {"template-mismatch": other_template, "wrong-base": other_base, "dead-tensors": broken_tensor}
FOLLOWS = {"underfitting": {"never-stops"}}
"""What a fault brings with it: a model that has not learned where answers end does not end them."""
LEARNED = 0.9


def names(run: RunFolder) -> set[str]:
    return {finding.name for finding in diagnose_run(run).findings}


def check_found(name: str, run: RunFolder) -> None:
    found = names(run)
    assert name in found and found <= {name} | FOLLOWS.get(name, set()), found


def check_healthy(run: RunFolder) -> None:
    diagnosis, report = diagnose_run(run), Report.read(run.room("evaluate"))
    assert report.systems[0].metrics["accuracy"].value >= LEARNED, "this run is not healthy"
    assert not diagnosis.findings and not diagnosis.not_checked, diagnosis


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run_with(HEALTHY, tmp_path_factory.mktemp("healthy"))


def test_a_healthy_run_has_no_finding(healthy: RunFolder) -> None:
    check_healthy(healthy)


@pytest.mark.parametrize(("family", "seed"), [("qwen3", 2), ("gpt2", 5)])
def test_healthy_runs_have_no_finding(family: str, seed: int, tmp_path: Path) -> None:
    check_healthy(run_with(HEALTHY, tmp_path, family=family, seed=seed))


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    check_found(name, run_with(FAULTS[name], tmp_path))


@pytest.mark.parametrize("name", AFTER)
def test_harm_done_afterwards_is_found(name: str, healthy: RunFolder, tmp_path: Path) -> None:
    run = copied(healthy, tmp_path)
    AFTER[name](run)
    assert name in names(run) and name not in names(healthy)


@pytest.mark.proof
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found(name: str, tmp_path: Path) -> None:
    check_found(name, run_with(FAULTS[name], tmp_path))


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(10))
def test_ten_healthy_runs_have_no_finding(seed: int, tmp_path: Path) -> None:
    check_healthy(run_with(HEALTHY, tmp_path, family=FAMILIES[seed % len(FAMILIES)], seed=seed))


def test_every_name_has_a_fault() -> None:
    from luthier.advise.diagnose.checks import CHECKS

    assert {check.name for check in CHECKS} == set(FAULTS)
    assert all(isinstance(fault, Fault) for fault in FAULTS.values())
