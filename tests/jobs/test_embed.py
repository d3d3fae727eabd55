"""A recipe for vectors from rows to a measured, exported model that is asked; and one with a loss of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tests.train.embedded import NOTES_LOSS, compared_rows

from luthier.cli.predict import told
from luthier.core.errors import CheckpointError, RecipeError
from luthier.core.events import Event
from luthier.core.files import sha256_of
from luthier.core.runfolder import RunFolder
from luthier.jobs.looking import check_data, first_recipe, preview_data
from luthier.jobs.pipeline import run_recipe
from luthier.jobs.predict import open_predictor
from luthier.model.tiny import save_tiny_encoder
from luthier.recipe import Recipe
from luthier.recipe_io.read import load_recipe, recipe_from, recipe_yaml

ignore = list[Event]().append


def made(folder: Path, kind: str, **parts) -> Recipe:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in compared_rows(kind, 90)))
    save_tiny_encoder(folder / "base")
    train = {"method": {"name": "embed"} | parts.pop("method", {}), "steps": 20, "learning_rate": 3e-3, "threads": 1}
    train |= {"adapter": "full", "precision": "fp32", "micro_batch_tokens": 200, "gradient_checkpointing": False}
    usual = {"base_model": str(folder / "base"), "data": str(path), "train": train | {"batch_size": 16}}
    return recipe_from(usual | {"export": ["merged"], "evaluate": {"resamples": 200}} | parts)


def test_triplets_from_rows_to_a_vector(tmp_path: Path) -> None:
    result = run_recipe(made(tmp_path, "triplet", method={"matryoshka": [32, 8]}), RunFolder(tmp_path / "run"))
    plan, report = result.plan, result.report
    assert plan.train.method.loss == "in_batch_negatives" and plan.data.format == "triplets"
    assert plan.evaluate.metrics == ("triplet_accuracy", "mrr_at_10", "accuracy_at_1", "ndcg_at_10")
    assert [system.name for system in report.systems] == ["tf-idf", "untuned", "tuned"]
    assert {one.b for one in report.comparisons if one.metric == report.primary_metric} == {"tf-idf", "untuned"}
    for system in report.systems:
        accuracy = system.metrics["triplet_accuracy"]
        assert accuracy.low <= accuracy.value <= accuracy.high and accuracy.n == report.test_rows
    assert "MRR@10" in (tmp_path / "run" / "evaluate" / "report.md").read_text()
    assert "SentenceTransformer" in (tmp_path / "run" / "README.md").read_text()

    (exported,) = result.exports.exported
    assert exported.certificates["model"].result == "passed"
    assert json.loads((exported.folder / "head.json").read_text())["dimensions"] == [32, 8]
    said = list(open_predictor(RunFolder(tmp_path / "run"), ignore).predict(["ba de gi", "ko lu" * 400]))
    theirs = SentenceTransformer(str(exported.folder), device="cpu").encode([one.text for one in said])
    assert abs(np.array([one.vector for one in said]) - theirs).max() < 1e-5
    assert [one.cut for one in said] == [False, True] and told(said[0]).keys() == {"text", "cut", "vector"}


def test_scored_pairs_are_measured_by_correlation(tmp_path: Path) -> None:
    report = run_recipe(made(tmp_path, "likeness", export=[]), RunFolder(tmp_path / "run")).report
    systems = {system.name: system.metrics for system in report.systems}
    assert report.primary_metric == "spearman" and systems["tuned"].keys() == {"spearman", "pearson"}
    assert systems["tf-idf"]["pearson"].value > 0.5, "texts that belong together share words"
    sample = json.loads((tmp_path / "run" / "evaluate" / "samples.jsonl").read_text().splitlines()[0])
    assert "\n" in sample["prompt"] and sample["reference"] in ("0.9", "0.1")


def test_rows_are_looked_at_before_any_method_is_named(tmp_path: Path) -> None:
    recipe = made(tmp_path, "binary")
    bare = recipe_from({"base_model": recipe.base_model, "data": recipe.data.path})
    assert check_data(bare, ignore).answer_kind == "likeness"
    (shown,) = preview_data(bare, ignore, rows=1)
    assert len(shown.others) == 1 and all(piece.target for piece in (*shown.pieces, *shown.others[0]))
    text = first_recipe(bare, tmp_path / "new.yaml", ignore)
    assert "name: embed" in text and "loss: contrastive" in text


def with_loss(folder: Path, text: str) -> Recipe:
    (folder / "custom_loss.py").write_text(text)
    recipe = made(folder, "binary", export=[], evaluate=None)
    (folder / "recipe.yaml").write_text(recipe_yaml(recipe))
    return load_recipe(folder / "recipe.yaml", ["train.steps=3"])


def test_a_loss_of_ones_own_is_kept_with_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = with_loss(tmp_path, NOTES_LOSS)
    (tmp_path / "recipe.yaml").write_text(
        recipe_yaml(recipe).replace("loss: auto", "loss: custom_loss.py:CustomContrastiveLoss")
    )
    monkeypatch.chdir("/")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    loss, folder = recipe.train.method.loss, RunFolder(tmp_path / "run")
    assert (loss.file, loss.class_name) == (str(tmp_path / "custom_loss.py"), "CustomContrastiveLoss")
    plan = run_recipe(recipe, folder).plan
    assert plan.train.method.loss.sha256 == sha256_of(tmp_path / "custom_loss.py")
    assert (folder.room("train") / "loss" / "custom_loss.py").read_text() == NOTES_LOSS

    (tmp_path / "custom_loss.py").write_text(NOTES_LOSS.replace("margin=1.0", "margin=2.0"))
    with pytest.raises(CheckpointError, match="cannot go on as it began") as caught:
        run_recipe(recipe, folder)
    assert "custom_loss.py" in caught.value.why
    with pytest.raises(RecipeError, match="the loss has changed"):
        run_recipe(load_recipe(folder.plan), RunFolder(tmp_path / "other"))
    broken = tmp_path / "broken"
    (tmp_path / "custom_loss.py").write_text(NOTES_LOSS.replace("nn.functional.pairwise", "nn.functional.pairwize"))
    with pytest.raises(RecipeError, match="the loss of your own failed") as caught:
        run_recipe(recipe, RunFolder(broken))
    assert caught.value.where["file"] == f"{tmp_path / 'custom_loss.py'}:11" and not broken.exists()


@pytest.mark.parametrize(
    ("method", "path", "told_of"),
    [
        ({"margin": 0.3}, "margin", "does not use `margin`"),
        ({"loss": "cosine", "temperature": 0.1}, "temperature", "does not use `temperature`"),
        ({"loss": "mine.py:Loss", "margin": 0.1}, "margin", "does not use `margin`"),
        ({"loss": "in_batch"}, "loss", "in_batch"),
        ({"loss": "mine.py"}, "loss.class_name", "is missing"),
        ({"matryoshka": [8, 8]}, "", "cannot be used"),
    ],
)
def test_options_that_make_no_sense_are_named(tmp_path: Path, method: dict, path: str, told_of: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from({"data": "rows.jsonl", "train": {"method": {"name": "embed"} | method}})
    assert told_of in caught.value.what and caught.value.where["field"].startswith("train.method")
    assert caught.value.where["field"].endswith(path)


def test_a_batch_of_one_row_has_no_negatives() -> None:
    train = {"method": {"name": "embed", "loss": "in_batch_negatives"}, "batch_size": 1}
    with pytest.raises(RecipeError, match="no negatives"):
        recipe_from({"data": "rows.jsonl", "train": train})
