"""`luthier diagnose` and `luthier run --apply`, as a person calls them."""

import json
from pathlib import Path

import pytest
from bench.faults import FAULTS, run_with

from luthier.cli.app import app
from luthier.core.errors import RecipeError
from luthier.jobs.diagnose.desk import FILE, PLOT


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose learning rate is too low."""
    folder = tmp_path_factory.mktemp("slow")
    run_with(FAULTS["learning-rate-too-low"], folder)
    return folder


@pytest.fixture(autouse=True)
def here(slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(slow)
    monkeypatch.setenv("LUTHIER_RUNS", "runs")


def luthier(*words: str) -> None:
    app(words, standalone_mode=False)


def test_a_table_names_the_problem_its_evidence_and_what_was_not_checked(slow: Path, capsys) -> None:
    luthier("diagnose", "run")
    told = capsys.readouterr().out
    for words in ("learning-rate-too-low", "learning rate 1e-06", "train.learning_rate: 5e-05", "not checked"):
        assert words in told
    assert (slow / "run" / FILE).exists() and (slow / "run" / PLOT).exists()


def test_what_was_found_is_applied_and_told_on_stderr(slow: Path, capsys) -> None:
    luthier("diagnose", "run", "--json")
    assert json.loads(capsys.readouterr().out) == json.loads((slow / "run" / FILE).read_text())
    only = ("--apply", f"run/{FILE}", "--apply-only", "learning-rate-too-low")
    luthier("run", "recipe.yaml", *only, "--set", "train.steps=2", "--json")
    told = capsys.readouterr()
    assert json.loads(told.out)["plan"]["train"]["learning_rate"] == 5e-5
    assert "applied: train.learning_rate: 1e-06 → 5e-05 (learning-rate-too-low:" in told.err


def test_apply_only_alone_is_refused() -> None:
    with pytest.raises(RecipeError, match="`--apply-only` needs `--apply`"):
        luthier("run", "recipe.yaml", "--apply-only", "divergence")
