from pathlib import Path

import pytest
from tests.jobs.fakes import FakeRooms, recipe_file

from luthier.core.errors import RecipeError
from luthier.core.runfolder import RunFolder
from luthier.jobs.choose import choose_folder, finished, run_name
from luthier.jobs.pipeline import run_recipe
from luthier.recipe import Recipe
from luthier.recipe_io.read import load_recipe


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("LUTHIER_RUNS", str(tmp_path / "runs"))
    return load_recipe(recipe_file(tmp_path))


def left_unfinished(recipe: Recipe, folder: RunFolder) -> RunFolder:
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, folder, rooms=FakeRooms(fails="train").rooms())
    return folder


def test_names(tmp_path: Path) -> None:
    files = ["a/tones.yaml", "tones/recipe.yaml", "runs/tones-2/plan.yaml", "a/my tones!.yaml"]
    assert [run_name(tmp_path / file) for file in files] == ["tones", "tones", "tones", "my-tones"]
    assert run_name(None) == "run"


def test_a_new_run_never_touches_an_unfinished_one(recipe: Recipe) -> None:
    first = left_unfinished(recipe, choose_folder(recipe, name="tones"))
    assert choose_folder(recipe, name="tones").path.name == "tones-2"
    assert choose_folder(recipe, name="tones", resume=True) == first


def test_resume_takes_the_newest_run_of_the_same_recipe(recipe: Recipe) -> None:
    other = recipe.model_copy(update={"seed": 8})
    left_unfinished(recipe, choose_folder(recipe, name="tones"))
    mine = left_unfinished(other, choose_folder(other, name="tones"))
    left_unfinished(recipe, choose_folder(recipe, name="tones"))
    assert choose_folder(other, name="tones", resume=True) == mine
    changed = recipe.model_copy(update={"seed": 9})
    assert choose_folder(changed, name="tones", resume=True).path.name == "tones-4"


def test_out_is_used_as_it_is_said(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert choose_folder(recipe, name="x", out=out) == RunFolder(out)
    left_unfinished(recipe, RunFolder(out))
    with pytest.raises(RecipeError, match="--resume"):
        choose_folder(recipe, name="x", out=out)
    assert choose_folder(recipe, name="x", out=out, resume=True) == RunFolder(out)
    with pytest.raises(RecipeError, match="another recipe"):
        choose_folder(recipe.model_copy(update={"seed": 1}), name="x", out=out, resume=True)
    run_recipe(recipe, RunFolder(out), rooms=FakeRooms().rooms())
    assert finished(RunFolder(out)) and choose_folder(recipe, name="x", out=out) == RunFolder(out)


def test_foreign_folders_and_files_are_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    for out, words in ((tmp_path / "full", "no run"), (tmp_path / "rows.jsonl", "not a folder")):
        with pytest.raises(RecipeError, match=words):
            choose_folder(recipe, name="x", out=out)
    (tmp_path / "empty").mkdir()
    # What a run leaves that was killed as it began.
    (tmp_path / "empty" / ".lock").touch()
    (tmp_path / "empty" / "events.jsonl").touch()
    assert choose_folder(recipe, name="x", out=tmp_path / "empty").path.name == "empty"


def test_a_recipe_folder_is_not_taken_for_its_run(recipe: Recipe, tmp_path: Path) -> None:
    mine = recipe_file(tmp_path / "mine", name="recipe.yaml")
    before = mine.read_text()
    for resume in (False, True):
        with pytest.raises(RecipeError, match="no run"):
            choose_folder(load_recipe(mine), name="x", out=mine.parent, resume=resume)
    assert mine.read_text() == before


def test_a_run_of_another_version_is_not_gone_on_with(recipe: Recipe) -> None:
    left_unfinished(recipe, choose_folder(recipe, name="tones")).recipe.write_text("gone: 1\n")
    assert choose_folder(recipe, name="tones", resume=True).path.name == "tones-2"
