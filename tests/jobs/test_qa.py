"""Questions about texts from rows to answers: by a head that points, and by a model that writes."""

import json
from pathlib import Path

import pytest
from tests.train.test_qa import asked_rows

from luthier.core.errors import DataError
from luthier.core.events import Event
from luthier.core.runfolder import RunFolder
from luthier.jobs.looking import check_data, preview_data
from luthier.jobs.pipeline import run_recipe
from luthier.jobs.predict import open_predictor, takes_questions
from luthier.jobs.texts import Asked, asked_of
from luthier.model.tiny import save_tiny, save_tiny_encoder
from luthier.recipe_io.read import recipe_from

ignore = list[Event]().append


def made(folder: Path, method: object, *, family: str, rows: list[dict], **parts):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (save_tiny if family == "llama" else save_tiny_encoder)(folder / "base", family)
    train = {"method": method, "steps": 30, "learning_rate": 3e-3, "adapter": {"name": "full"}, "threads": 1}
    train |= {"precision": "fp32", "micro_batch_tokens": 400, "gradient_checkpointing": False, "batch_size": 16}
    train |= parts.pop("train", {})
    data = {"path": str(path), **parts.pop("data", {})}
    usual = {"base_model": str(folder / "base"), "data": data, "train": train}
    return recipe_from(usual | {"evaluate": {"resamples": 200}} | parts)


def test_a_head_points_at_answers(tmp_path: Path) -> None:
    adapter = {"adapter": {"name": "lora", "r": 4}, "learning_rate": 1e-2}
    recipe = made(
        tmp_path,
        {"name": "qa", "stride": 6},
        family="bert",
        rows=asked_rows(90),
        train=adapter,
        data={"max_tokens": 36},
        export=["merged", "adapter"],
    )
    assert check_data(recipe, ignore).answer_kind == "quote"
    pieces = preview_data(recipe, ignore, rows=2)
    assert [piece.text for piece in pieces[0].pieces if piece.target] == ["[CLS]"]
    assert [piece.text for piece in pieces[1].pieces if piece.target] == ["yyy"]

    result = run_recipe(recipe, RunFolder(tmp_path / "run"))
    assert result.plan.data.format == "squad" and result.plan.data.render == "text"
    systems = {system.name: system.metrics for system in result.report.systems}
    assert list(systems) == ["majority", "nearest-sentence", "untuned", "tuned"]
    metrics = {"squad_f1", "squad_em", "has_answer_f1", "has_answer_em", "no_answer_accuracy"}
    assert systems["tuned"].keys() == metrics and result.report.primary_metric == "squad_f1"
    assert {one.certificates["model"].result for one in result.exports.exported} == {"passed"}
    assert all((one.folder / "head.json").exists() for one in result.exports.exported)
    samples = [json.loads(line) for line in (tmp_path / "run" / "evaluate" / "samples.jsonl").open()]
    assert all(list(one["answers"]) == list(systems) for one in samples)

    run = RunFolder(tmp_path / "run")
    assert takes_questions(run)
    asked = [*asked_of(str(tmp_path / "rows.jsonl"))[:6], Asked("x?", "ba 😀 é " * 40 + "xxx")]
    for one, said in zip(asked, open_predictor(run, ignore).answer(asked), strict=True):
        assert said.question == one.question and 0 <= said.probability <= 1
        assert said.answer == ("" if said.start is None else one.text[said.start : said.end])
    with pytest.raises(DataError, match="no question, or no text"):
        (tmp_path / "bad.jsonl").write_text('{"question": "x?"}\n')
        asked_of(str(tmp_path / "bad.jsonl"))


def test_a_model_writes_answers_with_the_same_measures(tmp_path: Path) -> None:
    rows = asked_rows(40)
    for row in rows:
        row["answers"]["text"] += row["answers"]["text"]
        row["answers"]["answer_start"] += row["answers"]["answer_start"]
    evaluate = {"resamples": 200, "baselines": ["zero-shot"], "max_new_tokens": 4}
    recipe = made(tmp_path, "sft", family="llama", rows=rows, train={"steps": 2}, evaluate=evaluate, export=[])
    result = run_recipe(recipe, RunFolder(tmp_path / "run"))
    assert result.plan.data.format == "squad" and result.report.primary_metric == "squad_f1"
    systems = {system.name: system.metrics for system in result.report.systems}
    assert {"squad_f1", "squad_em", "perplexity"} <= systems["tuned"].keys()
