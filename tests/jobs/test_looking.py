from dataclasses import replace
from pathlib import Path

import pytest
from tests.jobs.fakes import FACTS, FakeRooms, recipe_file

from luthier.core.errors import DataError
from luthier.jobs.looking import first_recipe
from luthier.recipe import Recipe
from luthier.recipe_io.read import load_recipe


def written(folder: Path, *overrides: str) -> Recipe:
    """Return the recipe that `init` writes where these values are set, read back."""
    asked = load_recipe(recipe_file(folder / "data"), overrides)
    (folder / "first.yaml").write_text(first_recipe(asked, folder / "first.yaml", print, rooms=FakeRooms().rooms()))
    return load_recipe(folder / "first.yaml")


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


def test_pairs_get_the_method_that_takes_them(tmp_path: Path) -> None:
    rows, out = tmp_path / "pairs.jsonl", tmp_path / "first.yaml"
    rows.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n' * 3)
    asked, doors = Recipe(data={"path": str(rows)}), FakeRooms().rooms()
    of_pairs = replace(FACTS, data=replace(FACTS.data, format="preference", answer_kind="pair"))
    doors = replace(doors, facts=lambda recipe, base, emit: of_pairs)
    out.write_text(first_recipe(asked, out, lambda event: None, rooms=doors))
    train = load_recipe(out).train
    assert (train.method.name, train.method.beta, train.learning_rate) == ("dpo", 0.1, 5e-5)
    assert "beta: 0.1" in out.read_text()

    # A method that was asked for stays, and is refused by name.
    sft = Recipe(data={"path": str(rows)}, train={"method": {"name": "sft"}})
    with pytest.raises(DataError) as caught:
        first_recipe(sft, out, lambda event: None, rooms=doors)
    assert "`preference`" in caught.value.why and "`dpo`" in caught.value.hint


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        (["train.steps=30"], lambda recipe: (recipe.train.steps, recipe.train.epochs) == (30, None)),
        (["evaluate=null"], lambda recipe: recipe.evaluate is None),
        (["evaluate.metrics=[bleu]"], lambda recipe: recipe.evaluate.metrics == ("bleu",)),
        (["data.text_template='{text}: {label}'"], lambda recipe: recipe.data.text_template == "{text}: {label}"),
        (["train.early_stopping.patience=2"], lambda recipe: recipe.train.early_stopping.patience == 2),
        (["train.adapter=full", "export=[]"], lambda recipe: recipe.train.adapter.name == "full" and not recipe.export),
        (["data.test_path=null"], lambda recipe: recipe.data.test_path is None),
    ],
)
def test_what_was_set_is_written_down(tmp_path: Path, overrides: list[str], kept: object) -> None:
    assert kept(written(tmp_path, *overrides))


def test_files_are_named_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": "b"}\n')
    recipe = written(tmp_path, f"data.test_path={tmp_path / 'test.jsonl'}")
    assert recipe.data.test_path == str(tmp_path / "test.jsonl")
    assert str(tmp_path) not in (tmp_path / "first.yaml").read_text()
