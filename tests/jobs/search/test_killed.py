"""Real trainings in real processes: judged on the validation rows alone, and killed at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.tiny_run import COMMAND, environment, make_tiny

from luthier.core.artifacts import Trained
from luthier.core.events import read_events
from luthier.examples.store import Split
from luthier.jobs.search.desk import Wanted
from luthier.jobs.search.result import Searched
from luthier.jobs.search.search import search

RECIPE = """\
base_model: base
data: rows.jsonl
train: {steps: 150, batch_size: 4, adapter: {r: 2, dropout: 0.1}, threads: 1, precision: fp32, learning_rate: 1e-3,
  micro_batch_tokens: 512, gradient_checkpointing: false, compile: false, checkpoint_every: 4, validate_every: 50}
evaluate: {resamples: 200}
"""
SPACE = """\
search_strategy: {type: random, num_trials: 1, objectives: [validation_loss, accuracy]}
search_space:
  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
"""
LONGEST_S = 240


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_tiny(tmp_path)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "space.yaml").write_text(SPACE)
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def searched(home: Path, out: str, *, resume: bool = False) -> Searched:
    wanted = Wanted(home / "recipe.yaml", home / "space.yaml", out=home / out, resume=resume)
    return search(wanted, lambda event: None)


def trained(home: Path, out: str) -> Trained:
    made = Trained.read(home / out / "trials" / "0001" / "train")
    assert made is not None
    return made


def test_a_killed_search_goes_on_and_finds_the_same(home: Path) -> None:
    words = [sys.executable, "-c", COMMAND, "search", "recipe.yaml", "--space", "space.yaml", "--out", "cut"]
    process = subprocess.Popen(words, cwd=home, env=environment(home), stderr=subprocess.DEVNULL)
    trial = home / "cut" / "trials" / "0001"
    until = time.monotonic() + LONGEST_S
    while not list(trial.glob("train/checkpoints/step-*")) and time.monotonic() < until:
        assert process.poll() is None, "the search ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = searched(home, "cut", resume=True)
    told = [event.message for event in read_events(trial / "events.jsonl")]
    assert any(message.startswith("going on from step-") for message in told)

    whole = searched(home, "whole")
    assert trained(home, "cut").weights_sha256 == trained(home, "whole").weights_sha256
    assert [(one.state, one.tried, one.values) for one in again.trials] == [
        (one.state, one.tried, one.values) for one in whole.trials
    ]
    assert [one.state for one in again.trials] == ["done", "done"]
    check_held_out_rows_alone(home / "whole")


def check_held_out_rows_alone(out: Path) -> None:
    """Assert that what was judged are the validation rows, and none of the test rows."""
    rows = {}
    for name in ("validation", "test"):
        split = Split(out / "data" / "examples" / f"{name}.arrow")
        rows[name] = {f"rows.jsonl:{split.example(number).row}" for number in range(len(split))}
    judged = [json.loads(line)["row"] for line in (out / "trials/0000/judged/samples.jsonl").read_text().splitlines()]
    assert set(judged) == rows["validation"] and rows["test"] and not set(judged) & rows["test"]
    losses = json.loads((out / "trials/0000/judged.json").read_text())["losses"]
    assert len(losses) == len(rows["validation"])
