from pathlib import Path
from typing import Any

import pytest
from tests.jobs.fakes import FACTS

from luthier.jobs.plan import leaves, open_fields, plan_yaml, replaced, resolve, value_at
from luthier.recipe import Plan, Recipe
from luthier.recipe_io.read import load_recipe

RECIPES: list[dict[str, Any]] = [
    {"data": {"path": "x"}},
    {"data": {"path": "x"}, "train": {"adapter": {"name": "full"}, "steps": 9}, "evaluate": None, "export": ()},
    {"data": {"path": "x"}, "train": {"epochs": 0.5, "batch_size": 4, "early_stopping": {"patience": 2}}},
]


def values(plan: Plan) -> dict[str, Any]:
    return {path: value_at(plan, path) for path in leaves(plan)}


@pytest.mark.parametrize("asked", RECIPES)
def test_nothing_is_left_open(asked: dict[str, Any]) -> None:
    plan = resolve(Recipe(**asked), FACTS)
    assert "auto" not in values(plan).values() and open_fields(plan) == []
    assert plan.train.checkpoint_every and (plan.train.epochs or plan.train.steps)


@pytest.mark.parametrize("asked", RECIPES)
def test_every_value_says_where_it_comes_from(asked: dict[str, Any]) -> None:
    plan = resolve(Recipe(**asked), FACTS)
    assert [reason.path for reason in plan.reasons] == list(leaves(plan))
    assert all(reason.because for reason in plan.reasons if reason.source == "resolved")


def test_sources() -> None:
    plan = resolve(Recipe(data={"path": "x"}, train={"epochs": 2, "warmup": 0.1}), FACTS)
    source = {reason.path: reason.source for reason in plan.reasons}
    paths = ("data.path", "train.epochs", "train.warmup", "train.learning_rate", "seed")
    assert [source[path] for path in paths] == ["recipe", "recipe", "recipe", "resolved", "default"]


@pytest.mark.parametrize("asked", RECIPES)
def test_what_a_recipe_sets_stays(asked: dict[str, Any]) -> None:
    recipe = Recipe(**asked)
    plan = resolve(recipe, FACTS)
    kept = {path: value_at(recipe, path) for path in leaves(recipe) if value_at(recipe, path) not in ("auto", None)}
    assert {path: value_at(plan, path) for path in kept} == kept


@pytest.mark.parametrize("asked", RECIPES)
def test_a_written_plan_is_the_same_plan(asked: dict[str, Any], tmp_path: Path) -> None:
    asked = asked | {"data": {"path": str(tmp_path / "x.jsonl")}}
    plan = resolve(Recipe(**asked), FACTS)
    (tmp_path / "plan.yaml").write_text(plan_yaml(plan))
    again = load_recipe(tmp_path / "plan.yaml")
    assert again == plan and resolve(again, FACTS) == plan


def test_reasons_stand_beside_their_values() -> None:
    text = plan_yaml(resolve(Recipe(data={"path": "x"}), FACTS))
    line = next(line for line in text.splitlines() if line.strip().startswith("learning_rate:"))
    assert " ".join(line.split()) == "learning_rate: 0.0005 # usual for an adapter on a model of 135 M parameters"


def test_replaced_changes_one_value_only() -> None:
    recipe = Recipe(data={"path": "x"})
    changed = replaced(recipe, "train.adapter.r", 4)
    assert changed.train.adapter.r == 4 and recipe.train.adapter.r == 16
    assert replaced(changed, "train.adapter.r", 16) == recipe
