from pathlib import Path

import pytest

from luthier.core.errors import DataError, RecipeError
from luthier.export.spec import form_of
from luthier.jobs.prepare import check_sources
from luthier.recipe import Plan, Recipe
from luthier.recipe_io.read import check_recipe, load_recipe, recipe_from, recipe_yaml


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    (folder / "recipe.yaml").write_text(text)
    return load_recipe(folder / "recipe.yaml", overrides)


def error_of(folder: Path, text: str, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load(folder, text, *overrides)
    return caught.value


def test_the_recipe_of_the_issue(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        """
base_model: smollm2-135m-instruct
data: {path: tones.jsonl, format: auto, split: {validation: 0.1, test: 0.1}}
train:
  method: {name: sft}
  adapter: {name: lora, r: 16}
  epochs: 2                 # or steps
  learning_rate: auto
  checkpoint_every: 50
evaluate: {baselines: [zero-shot, few-shot], metrics: auto}
export: [merged]
seed: 7
""",
    )
    assert recipe.train.epochs == 2 and recipe.train.checkpoint_every == 50 and recipe.export == ("merged",)
    assert recipe.data.path == str(tmp_path / "tones.jsonl")


def test_short_forms(tmp_path: Path) -> None:
    recipe = load(tmp_path, "data: [a.jsonl, b.jsonl]\ntrain: {adapter: full, method: sft}\nexport: merged\n")
    assert recipe.data.path == (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    assert recipe.train.adapter.name == "full" and recipe.export == ("merged",)
    assert load(tmp_path, "data: a\ntrain: {adapter: {r: 4}}").train.adapter.r == 4


def test_paths_count_from_the_recipe_and_set_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(), here.mkdir()
    (home / "model").mkdir()
    monkeypatch.chdir(here)
    recipe = load(home, "data: {path: rows.jsonl, test_path: ../t.csv}\nbase_model: model\n", "data.path=mine.jsonl")
    assert recipe.data.path == str(here / "mine.jsonl") and recipe.data.test_path == str(tmp_path / "t.csv")
    assert recipe.base_model == str(home / "model")


@pytest.mark.parametrize("name", ["org/name", "org/name:train[:4096]"])
def test_hub_names_stay(tmp_path: Path, name: str) -> None:
    recipe = load(tmp_path, f"data: '{name}'\nbase_model: org/model\n")
    assert (recipe.data.path, recipe.base_model) == (name, "org/model")


@pytest.mark.parametrize(
    ("text", "line", "field", "words"),
    [
        ("data: x\nbse_model: y", 2, "bse_model", "did you mean `base_model`?"),
        ("data:\n  path: x\n  splt: {}", 3, "data.splt", "did you mean `data.split`?"),
        ("data: x\nlearning_rate: 1", 2, "learning_rate", "did you mean `train.learning_rate`?"),
        ("data: x\ntrain: {lr: 1}", 2, "train.lr", "did you mean `train.learning_rate`?"),
        ("data: x\nwhatnot: 1", 2, "whatnot", "a recipe takes `base_model`, `data`"),
        ("data: x\ntrain:\n  learning_rate: -1", 3, "train.learning_rate", "`auto` or a number above 0"),
        ("data: x\ntrain:\n  steps: 1.5", 3, "train.steps", "a whole number above 0"),
        ("data: x\ntrain:\n  steps: '5'", 3, "train.steps", "a whole number above 0"),
        ("data: x\ntrain:\n  keep_best: no", 3, "train.keep_best", "`true` or `false`"),
        ("data: x\ntrain:\n  schedule: cosin", 3, "train.schedule.name", "did you mean `cosine`?"),
        ("data: x\ntrain:\n  adapter: lor", 3, "train.adapter.name", "did you mean `lora`?"),
        ("data: x\ntrain:\n  betas: [0.9, 1.5]", 3, "train.betas[1]", "below 1"),
        ("data: x\nevaluate:\n  metrics: [acuracy]", 3, "evaluate.metrics[0]", "did you mean `accuracy`?"),
        ("data: x\nseed: .inf", 2, "seed", "a whole number"),
        ("data: x\ntrain: 3", 2, "train", "a block of"),
        ("data: x\ntrain: {epochs: 1, steps: 2}", 2, "train.steps", "epochs and steps are both set"),
        ("data: {path: x, split: {validation: 0}}\ntrain: {early_stopping: {}}", 2, "train.early_stopping", "watch"),
        ("data: {path: x, split: {test: 0}}", 1, "evaluate", "no test rows"),
        ("data: {path: x, split: {test: 0.5, validation: 0.5}}", 1, "data.split", "leave nothing to train on"),
        ("data: x\ntrain: {adapter: full}\nexport: [adapter]", 3, "export", "no adapter to export"),
    ],
)
def test_an_error_names_line_field_and_what_to_do(tmp_path: Path, text: str, line: int, field: str, words: str) -> None:
    error = error_of(tmp_path, text)
    place = {"file": str(tmp_path / "recipe.yaml"), "line": str(line), "field": field}
    shown = place if field != "evaluate" else {key: place[key] for key in ("file", "field")}
    assert {key: error.where.get(key) for key in shown} == shown
    assert words in str(error)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/rows.jsonl", "a" * 5000, "zero\\0byte.jsonl"])
def test_what_can_be_no_path_is_left_to_who_opens_it(tmp_path: Path, name: str) -> None:
    recipe = load(tmp_path, f'data: "{name}"\n')
    with pytest.raises(DataError):
        check_sources(recipe)


def test_text_that_is_not_unicode_is_one_error(tmp_path: Path) -> None:
    error = error_of(tmp_path, 'data: "\\ud800.jsonl"\n')
    assert "surrogate" in error.why and error.where["line"] == "1"
    with pytest.raises(RecipeError, match="not Unicode"):
        recipe_from({"data": {"path": ["caf\udce9.jsonl"]}})


@pytest.mark.parametrize("word", ["train.epochs=1e308", f"train.steps=1{'0' * 300}", "train.adapter.r=1000000"])
def test_values_beyond_all_machines_are_refused(tmp_path: Path, word: str) -> None:
    assert "up to" in error_of(tmp_path, "data: rows.jsonl\n", word).why


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    error = error_of(tmp_path, "data: x\nseed: -1\ntrain: {epochs: 0, r: 3}\n")
    assert error.where["line"] == "2" and "`train.epochs` cannot be `0`; unknown key `r`" in error.where["also"]


def test_data_is_needed(tmp_path: Path) -> None:
    assert "for example `data: rows.jsonl`" in str(error_of(tmp_path, "seed: 1"))


@pytest.mark.parametrize("text", ["", "[1]", "words", "null"])
def test_what_is_no_recipe(tmp_path: Path, text: str) -> None:
    assert "not a recipe" in error_of(tmp_path, text).what


def test_overrides(tmp_path: Path) -> None:
    words = ["train.learning_rate=1e-4", "train.adapter.r=8", "evaluate=null", "export=[]", "seed=3"]
    recipe = load(tmp_path, "data: x\ntrain: {adapter: lora}\n", *words)
    assert (recipe.train.learning_rate, recipe.train.adapter.r, recipe.evaluate, recipe.seed) == (1e-4, 8, None, 3)
    again = load(tmp_path, "data: x\nevaluate: null\n", "evaluate.max_rows=9", "train.early_stopping.patience=2")
    assert again.evaluate.max_rows == 9 and again.train.early_stopping.patience == 2


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("train.lerning_rate=1", "did you mean `train.learning_rate`?"),
        ("train.adapter.rr=1", "did you mean `train.adapter.r`?"),
        ("learning_rate=1", "did you mean `train.learning_rate`?"),
        ("train.epochs.x=1", "`train.epochs` has no parts"),
        ("train.epochs", "has no `=`"),
        ("=3", "has no `=`"),
        ("evaluate.max_rows=0", "a whole number from 1"),
        ("train.epochs=[", "cannot read"),
        ("reasons=[]", "unknown key `reasons`"),
    ],
)
def test_a_wrong_override_is_told_as_one(tmp_path: Path, word: str, says: str) -> None:
    error = error_of(tmp_path, "data: x\n", word)
    assert says in str(error) and word in str(error)


def test_a_recipe_is_written_and_read_back(tmp_path: Path) -> None:
    recipe = load(tmp_path, 'data: {path: a.jsonl, text_template: "{a}\\n{b}"}\ntrain: {early_stopping: {}}\n')
    assert load(tmp_path, recipe_yaml(recipe)) == recipe


def test_a_plan_is_recognised_and_loses_reasons_that_set_made_untrue(tmp_path: Path) -> None:
    reasons = "reasons:\n- {path: train.epochs, source: resolved, because: a}\n- {path: seed, source: default}\n"
    plan = load(tmp_path, "data: x\ntrain: {epochs: 2}\n" + reasons, "train.epochs=5")
    assert isinstance(plan, Plan) and [reason.path for reason in plan.reasons] == ["seed"]


def test_a_mapping_is_a_recipe_too() -> None:
    assert recipe_from({"data": {"path": ["a.jsonl"]}}).data.path == (str(Path("a.jsonl").resolve()),)


def test_recipes_from_python_are_checked_too() -> None:
    recipe = Recipe(data={"path": "x"}, train={"epochs": 1, "steps": 1})
    with pytest.raises(RecipeError, match="both set"):
        check_recipe(recipe)


@pytest.mark.parametrize(
    ("entry", "field", "what"),
    [
        ("mergd", "export[1]", "did you mean `merged`?"),
        ("{name: gguf, block_size: 64}", "export[1]", "`gguf` has no option `block_size`"),
        ("{name: onnx-int4, block_size: 33}", "export[1].block_size", "`export[1].block_size` cannot be `33`"),
        ("{name: onnx-int4, blok_size: 64}", "export[1].blok_size", "did you mean `export[1].block_size`?"),
    ],
)
def test_a_wrong_form_of_export_is_explained_before_any_work(tmp_path: Path, entry: str, field: str, what: str) -> None:
    error = error_of(tmp_path, f"data: x\nexport: [merged, {entry}]\n")
    assert what in str(error), str(error)
    assert error.where["line"] == "2" and error.where["field"] == field and "also" not in error.where


def test_a_form_of_export_may_have_options(tmp_path: Path) -> None:
    recipe = load(tmp_path, "data: x\nexport: [merged, {name: onnx-int4, block_size: 64, wider: ['0', head]}]\n")
    assert [form_of(one).title for one in recipe.export] == ["merged", "onnx-int4-b64-w0.head"]
    (tmp_path / "again.yaml").write_text(recipe_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml").export == recipe.export
