from pathlib import Path

import pytest
from tests.jobs.fakes import FakeRooms, recipe_file

import luthier
from luthier.core.errors import RecipeError


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("luthier.jobs.pipeline.real_rooms", FakeRooms().rooms)
    return recipe_file(tmp_path)


def test_python_gets_typed_results(recipe: Path, tmp_path: Path) -> None:
    result = luthier.run(recipe, overrides=["train.epochs=2"])
    assert result.folder == tmp_path / "runs" / "tones" and result.plan.train.epochs == 2
    assert result.report.systems[0].metrics["accuracy"].value == 0.8
    assert luthier.evaluate_run("tones") == luthier.evaluate_run(result.folder) == result.report


def test_a_recipe_object_runs_too(recipe: Path, tmp_path: Path) -> None:
    asked = luthier.load_recipe(recipe, ["seed=3"])
    assert luthier.run(asked, out=tmp_path / "mine").plan.seed == 3
    with pytest.raises(RecipeError, match="takes no overrides"):
        luthier.run(asked, overrides=["seed=4"])
