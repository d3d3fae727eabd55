"""`luthier run` with each adapter on a tiny model: it trains, answers the exam, is exported, and is talked to."""

import json
from pathlib import Path

import pytest
from tests.cli.tiny_run import make_tiny
from tests.model.adapters import CASES
from tests.sizes import is_tried

from luthier.core.runfolder import RunFolder
from luthier.jobs.chat import open_chat, open_chat_with_export
from luthier.jobs.pipeline import run_recipe
from luthier.recipe_io.read import recipe_from

SMALL = {"steps": 4, "batch_size": 4, "threads": 1, "precision": "fp32", "compile": False}


@pytest.mark.parametrize("case", [name for name in CASES if name not in ("lora", "full") and is_tried(name)])
def test_it_trains_answers_and_is_talked_to(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny(tmp_path)
    monkeypatch.setenv("LUTHIER_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    spec, form = CASES[case], "merged" if CASES[case].traits.whole else "adapter"
    adapter = json.loads(spec.model_dump_json(exclude_defaults=True)) | {"name": spec.name}
    recipe = recipe_from(
        {
            "base_model": str(folder / "base"),
            "data": str(folder / "rows.jsonl"),
            "train": {**SMALL, "adapter": adapter},
            "evaluate": {"resamples": 200, "max_rows": 4, "baselines": []},
            "export": [form],
        }
    )
    run = RunFolder(folder / "run")
    result = run_recipe(recipe, run)
    assert result.trained.adapter == spec.name and "auto" not in json.dumps(result.plan.train.model_dump(mode="json"))
    rate = result.plan.train.learning_rate
    assert rate == float(f"{5e-4 * spec.traits.rate:.0e}")
    tuned = next(system for system in result.report.systems if system.name.startswith("tuned"))
    assert tuned.metrics and tuned.prompt_tokens > 0
    [exported] = result.exports.exported
    assert exported.certificates["model"].result == "passed", exported.certificates["model"].reasons
    card = run.card.read_text()
    assert ("rounded to 4 bits" in card) == (spec.name == "qlora")

    chats = [open_chat(run, base_only=False, emit=lambda event: None)]
    if form == "adapter":
        chats.append(open_chat_with_export(exported.folder, adapter=None, emit=lambda event: None))
    answers = ["".join(chat.answer("a b c")) for chat in chats]
    assert len(set(answers)) == 1
