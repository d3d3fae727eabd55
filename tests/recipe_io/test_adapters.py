"""What a recipe may say of adapters: names, short forms, paths, and what makes no sense together."""

from pathlib import Path

import pytest

from luthier.core.errors import RecipeError
from luthier.recipe_io.read import load_recipe, recipe_from, recipe_yaml

NAMES = ("lora", "qlora", "vera", "ia3", "oft", "boft", "ln_tuning", "freeze", "full")
UNMERGEABLE = ("bottleneck", "prompt_tuning", "prefix_tuning", "p_tuning", "llama_adapter")


def load(folder: Path, text: str, *overrides: str):
    (folder / "recipe.yaml").write_text(text)
    return load_recipe(folder / "recipe.yaml", overrides)


@pytest.mark.parametrize("name", [*NAMES, *UNMERGEABLE])
def test_one_word_names_an_adapter(name: str, tmp_path: Path) -> None:
    form = "adapter" if name in UNMERGEABLE else "merged"
    recipe = load(tmp_path, f"data: a.jsonl\ntrain: {{adapter: {name}}}\nexport: {form}\n")
    assert recipe.train.adapter.name == name
    assert load(tmp_path, recipe_yaml(recipe)) == recipe


def test_a_misspelt_adapter_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as refused:
        load(tmp_path, "data: a.jsonl\ntrain: {adapter: botleneck}\n")
    assert "did you mean `bottleneck`?" in str(refused.value) and "prompt_tuning" in refused.value.why


def test_the_folder_to_go_on_from_counts_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("before", "here/mine"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    text = "data: a.jsonl\ntrain: {adapter: {name: lora, start_from: before}}\n"
    assert load(tmp_path, text).train.adapter.start_from == str(tmp_path / "before")
    found = load(tmp_path, text, "train.adapter.start_from=mine").train.adapter.start_from
    assert found == str(tmp_path / "here" / "mine")


@pytest.mark.parametrize(
    ("values", "field", "told"),
    [
        ({"train": {"adapter": "freeze"}, "export": ["adapter"]}, "export", "`full` and `freeze`"),
        ({"train": {"adapter": "bottleneck"}, "export": ["merged"]}, "export", "`bottleneck` can be exported as"),
        ({"train": {"adapter": "p_tuning"}, "export": ["adapter", "gguf"]}, "export", "`p_tuning` can be exported as"),
        ({"train": {"adapter": "prompt_tuning", "method": "dpo"}}, "train.adapter", "begins as the base"),
        (
            {"train": {"adapter": "prefix_tuning", "gradient_checkpointing": True}},
            "train.gradient_checkpointing",
            "cannot recompute",
        ),
        ({"train": {"adapter": {"name": "lora", "init": "pissa", "dora": True}}}, "train.adapter", "does not go with"),
        ({"train": {"adapter": {"name": "qlora", "block_size": 63}}}, "train.adapter.block_size", "63"),
        ({"train": {"adapter": {"name": "ia3", "r": 4}}}, "train.adapter.r", "r"),
    ],
)
def test_what_makes_no_sense_together_is_refused_by_its_field(values: dict, field: str, told: str) -> None:
    with pytest.raises(RecipeError) as refused:
        recipe_from({"data": "a.jsonl", **values})
    assert told in str(refused.value) and field in str(refused.value)


def test_what_makes_sense_is_taken() -> None:
    for adapter in ("bottleneck", "llama_adapter"):
        assert recipe_from({"data": "a.jsonl", "train": {"adapter": adapter}, "export": ["adapter"]}).export
    pairs = {"adapter": "bottleneck", "method": "dpo"}
    assert recipe_from({"data": "a.jsonl", "train": pairs, "export": []}).train.method.takes_pairs
