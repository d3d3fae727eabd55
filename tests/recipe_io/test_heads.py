"""What contradicts a head is refused when the recipe is read, by name."""

import pytest

from luthier.core.errors import RecipeError
from luthier.recipe import Plan, Reason
from luthier.recipe_io.read import recipe_from, recipe_yaml


def refused(**parts) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_from({"data": "rows.jsonl", "export": [], "train": {"method": "classify"}} | parts)
    return str(caught.value)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"data": {"path": "x", "instruction": "Say."}}, "data.instruction"),
        ({"data": {"path": "x", "text_template": "{a} {b}"}}, "data.text_template"),
        ({"data": {"path": "x", "render": "chat"}}, "data.render"),
        ({"train": {"method": "extract", "fast_step": True}}, "train.fast_step"),
        ({"train": {"method": "regress", "compile": True}}, "train.compile"),
        ({"evaluate": {"shots": 3}}, "evaluate.shots"),
        ({"evaluate": {"max_new_tokens": 3}}, "evaluate.max_new_tokens"),
        ({"evaluate": {"harness": ["arc_easy"]}}, "evaluate.harness"),
        ({"evaluate": {"metrics": ["bleu"]}}, "evaluate.metrics"),
        ({"evaluate": {"baselines": ["few-shot"]}}, "evaluate.baselines"),
        ({"train": {"method": "extract"}, "evaluate": {"baselines": ["nearest"]}}, "evaluate.baselines"),
        ({"data": {"path": "x", "too_long": "cut"}, "train": {"method": "qa"}}, "data.too_long"),
        ({"train": {"method": "qa"}, "evaluate": {"baselines": ["linear-head"]}}, "evaluate.baselines"),
        ({"export": ["gguf-q8_0"]}, "export"),
        ({"train": {"method": "classify", "adapter": "prompt_tuning"}}, "train.adapter"),
        ({"train": {"method": "classify", "adapter": "prefix_tuning"}}, "virtual tokens"),
        ({"train": {"method": "classify", "adapter": "llama_adapter"}}, "models that write"),
    ],
)
def test_of_a_head(parts: dict[str, object], field: str) -> None:
    assert field in refused(**parts)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"data": {"path": "x", "render": "text"}}, "data.render"),
        ({"evaluate": {"baselines": ["majority"]}}, "evaluate.baselines"),
        ({"evaluate": {"baselines": ["untuned"]}}, "evaluate.baselines"),
        ({"evaluate": {"metrics": ["log_loss"]}}, "evaluate.metrics"),
    ],
)
def test_without_a_head(parts: dict[str, object], field: str) -> None:
    assert field in refused(**({"train": {"method": "sft"}} | parts))


def test_what_a_plan_settled_contradicts_nothing() -> None:
    recipe = recipe_from({"data": "rows.jsonl", "train": {"method": "classify"}, "export": ["merged", "adapter"]})
    evaluate = recipe.evaluate.model_copy(update={"shots": 1, "max_new_tokens": 1})
    reasons = tuple(Reason(path=f"evaluate.{name}", source="resolved") for name in ("shots", "max_new_tokens"))
    plan = Plan.model_validate(recipe.model_dump() | {"evaluate": evaluate.model_dump(), "reasons": reasons})
    assert "shots: 1" in recipe_yaml(plan)
    from luthier.core.yaml import parse_yaml

    again = recipe_from(parse_yaml(recipe_yaml(plan), name="plan").value)
    assert isinstance(again, Plan) and again.evaluate.shots == 1
