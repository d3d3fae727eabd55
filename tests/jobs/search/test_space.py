from pathlib import Path

import pytest
from tests.jobs.search.made import RECIPE
from tests.laws.source import ROOT

from luthier.core.errors import RecipeError
from luthier.jobs.search.names import SHORT_NAMES
from luthier.jobs.search.read import check_against, read_space
from luthier.jobs.search.space import Space
from luthier.recipe_io.explain import known_path

NOTES = """\
# hyperparameter-search.yaml
search_strategy:
  type: "random"
  num_trials: 20

search_space:
  learning_rate:
    type: "float"
    low: 1e-6
    high: 1e-3
    log: true
  
  lora_r:
    type: "int"
    low: 8
    high: 64
  
  batch_size:
    type: "choice"
    values: [8, 16, 32]
"""


def checked(folder: Path, text: str, **changes) -> Space:
    (folder / "space.yaml").write_text(text)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    read, space = read_space(folder / "space.yaml", changes)
    check_against(read, space, folder / "recipe.yaml", ())
    return space


def test_the_notes_file_is_read_as_it_is(tmp_path: Path) -> None:
    space = checked(tmp_path, NOTES)
    assert (space.strategy.type, space.trials) == ("random", 20)
    assert [one.path for one in space.dimensions] == ["train.learning_rate", "train.adapter.r", "train.batch_size"]
    assert space.dimensions[0].range.low == 1e-6 and space.dimensions[0].range.log


def test_short_names_are_fields_of_a_recipe() -> None:
    for key, path in SHORT_NAMES.items():
        assert known_path(path, key)


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    space = checked(tmp_path, NOTES, num_trials=3, type="tpe", pruner="median", objectives=None)
    assert (space.trials, space.strategy.type, space.strategy.pruner) == (3, "tpe", "median")


RATE = "type: float, low: 1e-4, high: 1e-3"
ONE = f"search_space:\n  lr: {{{RATE}}}\n"
ENTRY = "search_space:\n  {key}: {{{entry}}}\n"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (ENTRY.format(key="learning_rat", entry="type: float, low: 1, high: 2"), 2, "no field `learning_rat`"),
        (ENTRY.format(key="train.adapter.rank", entry="type: int, low: 1, high: 2"), 2, "no field"),
        (ENTRY.format(key="data.max_tokens", entry="type: int, low: 1, high: 2"), 2, "cannot be searched"),
        (ENTRY.format(key="seed", entry="type: int, low: 1, high: 2"), 2, "cannot be searched"),
        (ENTRY.format(key="lora_r", entry="type: int, low: 9, high: 2"), 2, "`lora_r` cannot be used"),
        (ENTRY.format(key="lr", entry="type: float, low: 0, high: 2, log: true"), 2, "`lr` cannot be used"),
        (ENTRY.format(key="lr", entry="type: float, low: 1, high: 2, log: true, step: 1"), 2, "cannot be used"),
        (ENTRY.format(key="lr", entry="type: flaot, low: 1, high: 2"), 2, "unknown type `flaot`"),
        (ENTRY.format(key="lr", entry="low: 1, high: 2"), 2, "has no `type`"),
        (ENTRY.format(key="lr", entry="type: float, lo: 1, high: 2"), 2, "is missing|unknown key"),
        (ENTRY.format(key="lr", entry="type: float, low: a, high: 2"), 2, "`low` cannot be used"),
        (ENTRY.format(key="lr", entry="type: choice, values: []"), 2, "`values` cannot be used"),
        (ENTRY.format(key="lr", entry="type: choice, values: [1, 1]"), 2, "`lr` cannot be used"),
        (ENTRY.format(key="lora_r", entry="type: int, low: 0, high: 2"), 2, "recipe refuses lora_r = 0"),
        (ENTRY.format(key="epochs", entry="type: int, low: 1, high: 2"), 2, "recipe refuses epochs = 1"),
        (ENTRY.format(key="schedule", entry="type: choice, values: [linear, cosin]"), 2, "schedule = \"cosin\""),
        (ENTRY.format(key="beta", entry="type: float, low: 0.1, high: 1"), 2, "recipe refuses beta"),
        (ENTRY.format(key="train.compile", entry="type: choice, values: [true, false]"), 2, "nothing to find"),
        (ONE + "search_strategy: {type: grid}\n", 2, "grid"),
        (ONE + "search_strategy: {type: cmaes}\n", 3, "adapt"),
        (ONE + "search_strategy: {typ: grid}\n", 3, "key `typ`"),
        (ONE + "serch: 1\n", 3, "unknown key `serch`"),
        ("search_strategy: {objectives: [accuracies]}\n" + ONE, 1, "objective"),
        ("search_strategy: {objectives: [seconds]}\n" + ONE, 1, "quality"),
        ("search_strategy: {objectives: [exact_match, seconds], pruner: median}\n" + ONE, 1, "search_strategy"),
        (ONE + "  learning_rate: {type: float, low: 1e-4, high: 1}\n", 2, "twice"),
        ("search_strategy: {type: tpe}\n", None, "no `search_space`"),
        ("- a\n", None, "no `search_space`"),
        ("a: [\n", 2, "space file"),
    ],
)  # fmt: skip
def test_a_wrong_space_is_refused_with_its_line(tmp_path: Path, text: str, line: int | None, what: str) -> None:
    with pytest.raises(RecipeError, match=what) as caught:
        checked(tmp_path, text)
    assert caught.value.where["file"].endswith("space.yaml")
    assert caught.value.where.get("line") == (str(line) if line else None)


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="do not go together"):
        checked(tmp_path, NOTES, pruner="median", objectives=("validation_loss", "seconds"))
    with pytest.raises(RecipeError, match="do not go together"):
        checked(tmp_path, NOTES, pruner="medium")


def test_the_example_fits_its_recipe() -> None:
    folder = ROOT / "examples" / "tones"
    read, space = read_space(folder / "space.yaml")
    check_against(read, space, folder / "recipe.yaml", ())
    assert space.strategy.pruner == "median" and len(space.dimensions) == 4
