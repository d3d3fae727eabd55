from pathlib import Path

from tests.jobs.fakes import FakeRooms, recipe_file

from luthier.jobs.looking import first_recipe
from luthier.recipe_io.read import load_recipe


def test_a_first_recipe_runs_and_gives_its_reasons(tmp_path: Path) -> None:
    asked = load_recipe(recipe_file(tmp_path / "data"))
    out = tmp_path / "recipes" / "first.yaml"
    text = first_recipe(asked, out, lambda event: None, rooms=FakeRooms().rooms())
    out.parent.mkdir()
    out.write_text(text)
    recipe = load_recipe(out)
    assert recipe.data.path == asked.data.path and recipe.train.learning_rate == 5e-4 and recipe.train.epochs == 3
    assert "path: ../data/rows.jsonl" in text and "# usual for an adapter on a model of 135 M parameters" in text
    assert "the longest row has 210 tokens" in text and str(tmp_path) not in text
