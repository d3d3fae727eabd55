"""Tasks of lm-eval in advice: what the tuned model forgets, within the budget and kept."""

import math
from pathlib import Path

import pytest
from tests.evaluate.test_harness import CHOOSE, ROWS
from tests.jobs.advise.test_advise import rows_of, wanted, write

from luthier.jobs.advise.advise import advise
from luthier.jobs.advise.report import markdown, page
from luthier.model.tiny import save_tiny

pytest.importorskip("lm_eval")


def test_a_task_is_measured_before_and_after(tmp_path: Path, monkeypatch) -> None:
    # The estimate of a full run is not what is tested here, and takes the longest.
    monkeypatch.setattr("luthier.jobs.advise.advise.ESTIMATE_S", math.inf)
    save_tiny(tmp_path / "base", "llama")
    write(tmp_path / "learnable.jsonl", rows_of(random_labels=False))
    write(tmp_path / "rows.json", ROWS)
    (tmp_path / "choose.yaml").write_text(CHOOSE)
    task = str(tmp_path / "choose.yaml")
    words = {"harness": (task,), "overrides": ("train.threads=1", "train.steps=4")}
    found = advise(wanted(tmp_path, "learnable", **words), lambda event: None)
    (one,) = found.of_best.harness
    assert (one.task, one.metric, one.rows) == ("choose_animal", "acc", len(ROWS))
    assert one.comparison is not None and one.comparison.metric == "acc"
    assert one.tuned - one.untuned == pytest.approx(one.comparison.difference)
    for text in (markdown(found), page(found)):
        assert "What it forgets: tasks of lm-eval" in text and "choose_animal" in text.replace("\\_", "_")

    # Another question about the same tuning does not ask the models again.
    kept = [path.stat().st_mtime_ns for path in tmp_path.rglob("lm-eval-*.json")]
    again = advise(wanted(tmp_path, "learnable", worthwhile=0.1, **words), lambda event: None)
    assert again.of_best.harness == found.of_best.harness and len(kept) == 2
    assert kept == [path.stat().st_mtime_ns for path in tmp_path.rglob("lm-eval-*.json")]
