from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.jobs.fakes import FACTS

from luthier.advise.facts import DataFacts, Facts, MachineFacts, ModelFacts
from luthier.core.yaml import parse_yaml
from luthier.jobs.plan import leaves, open_fields, plan_yaml, replaced, resolve, value_at
from luthier.recipe import Plan, Recipe
from luthier.recipe_io.read import load_recipe, recipe_from

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


WHOLE = st.integers
ANY_FACTS = st.builds(
    Facts,
    data=st.builds(
        DataFacts,
        rows=WHOLE(1, 10**9),
        has_validation=st.booleans(),
        format=st.sampled_from(["chat", "text"]),
        answer_kind=st.sampled_from(["closed", "json", "free", "pair", "text"]),
        labels=WHOLE(0, 50),
        mean_tokens=st.floats(1, 1e6),
        longest_tokens=WHOLE(1, 10**6),
        longest_answer_tokens=WHOLE(1, 10**6),
        complete=st.booleans(),
    ),
    model=st.builds(
        ModelFacts,
        parameters=WHOLE(1, 10**12),
        context_tokens=WHOLE(1, 10**7),
        linear_layers=st.just(("q_proj",)),
        layers=WHOLE(1, 500),
        hidden=WHOLE(1, 10**5),
        activation_bytes_per_token=st.floats(1, 1e9),
    ),
    machine=st.builds(
        MachineFacts,
        cores=WHOLE(1, 512),
        available_bytes=WHOLE(0, 10**13),
        accelerator=st.sampled_from([None, "a GPU"]),
        fast_dtype=st.sampled_from(["fp32", "bf16"]),
        fast_dtype_because=st.just("measured"),
        has_compiler=st.booleans(),
    ),
)


@settings(max_examples=100, deadline=None)
@given(facts=ANY_FACTS, asked=st.sampled_from(RECIPES))
def test_whatever_the_facts_the_plan_is_a_recipe_that_runs_again(facts: Facts, asked: dict[str, Any]) -> None:
    plan = resolve(Recipe(**asked), facts)
    assert open_fields(plan) == []
    again = recipe_from(parse_yaml(plan_yaml(plan), name="plan.yaml").value)
    assert again.train == plan.train and again.evaluate == plan.evaluate
