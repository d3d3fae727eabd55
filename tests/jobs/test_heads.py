"""A recipe with a head from rows to a measured, exported model that is asked again."""

import json
from pathlib import Path

import pytest
from tests.train.headed import judged_rows
from transformers import pipeline

from luthier.core.errors import ModelError, RecipeError
from luthier.core.events import Event
from luthier.core.runfolder import RunFolder
from luthier.jobs.chat import open_chat
from luthier.jobs.looking import check_data, first_recipe, preview_data
from luthier.jobs.pipeline import run_recipe
from luthier.jobs.predict import open_predictor
from luthier.jobs.texts import texts_of
from luthier.model.tiny import save_tiny, save_tiny_encoder
from luthier.recipe_io.read import recipe_from

ignore = list[Event]().append


def made(folder: Path, kind: str, method: str, *, family: str = "bert", **parts):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in judged_rows(kind, 90)))
    (save_tiny if family == "llama" else save_tiny_encoder)(folder / "base", family)
    train = {"method": method, "steps": 30, "learning_rate": 3e-3, "adapter": {"name": "full"}, "threads": 1}
    train |= {"precision": "fp32", "micro_batch_tokens": 400, "gradient_checkpointing": False, "batch_size": 16}
    usual = {"base_model": str(folder / "base"), "data": str(path), "train": train, "export": ["merged"]}
    return recipe_from(usual | {"evaluate": {"resamples": 200}} | parts)


def run(folder: Path, *arguments, **parts):
    return run_recipe(made(folder, *arguments, **parts), RunFolder(folder / "run"))


def test_classify_from_rows_to_an_answer(tmp_path: Path) -> None:
    result = run(tmp_path, "label", "classify")
    plan, report = result.plan, result.report
    assert plan.data.render == "text" and plan.data.format == "labelled" and plan.train.fast_step is False
    assert plan.evaluate.metrics == ("accuracy", "macro_f1", "log_loss", "ece")
    systems = {system.name: system.metrics for system in report.systems}
    assert list(systems) == ["majority", "linear-head", "nearest", "tuned"]
    assert systems["tuned"].keys() == {"accuracy", "macro_f1", "log_loss", "ece"}
    assert systems["nearest"].keys() == {"accuracy", "macro_f1"}, "votes of few rows are no probabilities"
    assert systems["tuned"]["accuracy"].value > systems["majority"]["accuracy"].value
    assert report.primary_metric == "accuracy" and report.calibration.temperature > 0
    assert report.calibration.ece_after.value == pytest.approx(systems["tuned"]["ece"].value)
    shown = (tmp_path / "run" / "evaluate" / "report.md").read_text()
    assert "## Calibration" in shown and "## Confusion" in shown and "linear-head" in shown
    assert "calibration" in (tmp_path / "run" / "evaluate" / "report.html").read_text()

    (exported,) = result.exports.exported
    assert exported.certificates["model"].result == "passed"
    predictor = open_predictor(RunFolder(tmp_path / "run"), ignore)
    texts = texts_of(str(tmp_path / "rows.jsonl"))[:6]
    said = list(predictor.predict(texts))
    assert all(sum(one.probabilities.values()) == pytest.approx(1, abs=1e-4) for one in said)
    assert [one.label for one in said] == [next(iter(one.probabilities)) for one in said]
    theirs = pipeline("text-classification", model=str(exported.folder), device="cpu")(texts)
    assert [one["label"] for one in theirs] == [one.label for one in said]

    with pytest.raises(RecipeError, match="cannot chat"):
        open_chat(RunFolder(tmp_path / "run"), base_only=False, emit=ignore)
    card = (tmp_path / "run" / "README.md").read_text() if (tmp_path / "run" / "README.md").exists() else ""
    assert "AutoModelForSequenceClassification" in card or not card


def test_extract_names_characters(tmp_path: Path) -> None:
    result = run(
        tmp_path, "spans", "extract", train={**made(tmp_path, "spans", "extract").train.model_dump(), "steps": 60}
    )
    systems = {system.name: system.metrics for system in result.report.systems}
    assert list(systems) == ["majority", "linear-head", "tuned"] and result.report.primary_metric == "entity_f1"
    predictor = open_predictor(RunFolder(tmp_path / "run"), ignore)
    long = "ba de " * 400
    found = list(predictor.predict(["xxx ko lu gi.", long]))
    assert found[1].cut and not found[0].cut
    assert all(one.text == said.text[one.start : one.end] for said in found for one in said.entities)


def test_regress_says_numbers_in_the_rows_own_unit(tmp_path: Path) -> None:
    result = run(tmp_path, "score", "regress", export=[])
    assert result.plan.data.format == "scored"
    systems = {system.name: system.metrics for system in result.report.systems}
    assert systems["tuned"].keys() == {"mae", "mse", "pearson", "spearman"}
    assert systems["majority"]["mae"].value > 3, "the rows' numbers are 10, 15 and 20"
    said = list(open_predictor(RunFolder(tmp_path / "run"), ignore).predict(["xxx ba", "zzz ba"]))
    assert all(5 < one.score < 25 for one in said)


def test_several_labels_on_a_causal_model_with_an_adapter(tmp_path: Path) -> None:
    usual = made(tmp_path, "labels", "classify", family="llama").train.model_dump() | {
        "adapter": {"name": "lora", "r": 4}
    }
    result = run(tmp_path, "labels", "classify", family="llama", train=usual, export=["merged", "adapter"])
    assert result.report.primary_metric == "micro_f1"
    assert {one.certificates["model"].result for one in result.exports.exported} == {"passed"}
    said = next(open_predictor(RunFolder(tmp_path / "run"), ignore).predict(["xxx ba de"]))
    assert set(said.labels) == {label for label, share in said.probabilities.items() if share > 0.5}


def test_an_encoder_is_met_before_any_method_is_named(tmp_path: Path) -> None:
    recipe = made(tmp_path, "label", "classify")
    bare = recipe_from({"base_model": recipe.base_model, "data": recipe.data.path})
    assert check_data(bare, ignore).answer_kind == "label"
    shown = preview_data(bare, ignore, rows=1)[0]
    assert [piece.text for piece in shown.pieces if piece.target] == ["[CLS]"]
    assert "name: classify" in first_recipe(bare, tmp_path / "new.yaml", ignore)
    with pytest.raises(ModelError, match="`sft` cannot tune an encoder"):
        run_recipe(
            recipe_from({"base_model": recipe.base_model, "data": recipe.data.path}), RunFolder(tmp_path / "sft")
        )
