import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.tiny_run import COMMAND, environment, luthier, make_tiny

from luthier.core.artifacts import Report
from luthier.core.files import sha256_of


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the tiny recipe was run once, as `runs/once`."""
    folder = make_tiny(tmp_path_factory.mktemp("tiny"))
    finished = luthier(folder, "run", "recipe.yaml", "--out", "runs/once", "--json")
    assert finished.returncode == 0, finished.stderr
    (folder / "told.json").write_text(finished.stdout)
    (folder / "talk.txt").write_text(finished.stderr)
    return folder


def test_json_is_one_document_on_stdout(done: Path) -> None:
    told = json.loads((done / "told.json").read_text())
    assert told["run"] == str(done / "runs" / "once") and told["trained"]["steps"] == 3
    names = [system["name"] for system in told["report"]["systems"]]
    assert {"zero-shot", "few-shot", "tuned"} <= set(names) and told["exports"]["exported"][0]["format"] == "merged"


def test_talk_on_stderr_names_every_room(done: Path) -> None:
    talk = (done / "talk.txt").read_text()
    places = [talk.index(f"\n{room}\n") for room in ("plan", "data", "training", "evaluation", "export")]
    assert places == sorted(places) and "training 3/3" in talk and "Warning" not in talk


def test_a_plan_makes_the_same_weights_again(done: Path) -> None:
    again = luthier(done, "run", "runs/once/plan.yaml", "--set", "evaluate=null", "--set", "export=[]")
    assert again.returncode == 0, again.stderr
    assert "chat with it: luthier chat runs/once-2" in again.stdout.replace("runs/once\n", "runs/once-2\n")
    weights = [
        next((done / "runs").glob(f"{name}/train/weights/adapter_model.safetensors")) for name in ("once", "once-2")
    ]
    assert sha256_of(weights[0]) == sha256_of(weights[1])


def test_the_finished_run_is_not_done_twice(done: Path) -> None:
    again = luthier(done, "run", "recipe.yaml", "--out", "runs/once")
    assert again.returncode == 0 and again.stderr.count("already done from the same inputs") == 4
    for words in ("zero-shot", "few-shot", "tuned", "accuracy", "report.html", "chat with it: luthier chat runs/once"):
        assert words in again.stdout


def test_evaluate_again_with_other_settings(done: Path) -> None:
    same = luthier(done, "evaluate", "runs/once", "--json")
    assert same.returncode == 0 and "already done" in same.stderr
    other = luthier(done, "evaluate", "runs/once", "--set", "evaluate.baselines=[zero-shot]", "--json")
    report = Report.model_validate_json(other.stdout)
    assert not any(system.name.startswith("few-shot") for system in report.systems)


def test_chat_with_both_models(done: Path) -> None:
    tuned = luthier(done, "chat", "once", "--once", "the day was good")
    assert tuned.returncode == 0 and tuned.stdout.endswith("\n"), tuned.stderr
    piped = luthier(done, "chat", "once", "--base", stdin="hello\n\n/new\n/exit\nnever\n")
    assert piped.returncode == 0 and "Classify the text" in piped.stderr, piped.stderr


def test_runs_are_listed_shown_and_compared(done: Path) -> None:
    for words in (["runs"], ["runs", "list"], ["runs", "show", "once"], ["runs", "compare", "once", "once"]):
        shown = luthier(done, *words)
        assert shown.returncode == 0 and "once" in shown.stdout, shown.stderr
    assert luthier(done, "runs", "compare", "once").returncode == 2
    listed = json.loads(luthier(done, "runs", "list", "--json").stdout)
    assert "finished" in [run["state"] for run in listed if run["name"] == "once"]


def waited_for(happened: Callable[[], bool], *, seconds: float = 60) -> bool:
    """Wait until something has happened, and say whether it did."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not happened():
        time.sleep(0.02)
    return happened()


def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path)
    words = ["run", "recipe.yaml", "--set", "train.steps=4000", "--set", "train.validate_every=4000"]
    command = [sys.executable, "-c", COMMAND, *words]
    with subprocess.Popen(command, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True) as process:
        assert any("training 0/4000" in line for line in process.stderr)
        measured = next((folder / "runs").iterdir()) / "train" / "metrics.jsonl"
        assert waited_for(lambda: len(measured.read_text().splitlines()) > 2)
        process.send_signal(signal.SIGINT)
        talk = process.stderr.read()
        assert process.wait() == 130, talk
    assert "--resume" in talk and "Traceback" not in talk
    run = next((folder / "runs").iterdir())
    assert "unfinished: train, step" in luthier(folder, "runs").stdout
    assert list((run / "train" / "checkpoints").iterdir())
    (folder / "recipe.yaml").write_text((folder / "recipe.yaml").read_text().replace("steps: 3", "steps: 4000"))
    fresh = luthier(folder, "run", "recipe.yaml", "--set", "train.steps=4", "--resume", "--set", "evaluate=null")
    assert fresh.returncode == 0 and "a new one starts" in fresh.stderr, fresh.stderr


def test_data_check_and_preview(done: Path) -> None:
    (done / "bad.jsonl").write_text('{"text": "a", "label": "x"}\nnot json\n{"text": "a", "label": "x"}\n')
    check = luthier(done, "data", "check", "bad.jsonl", "--base-model", "base")
    assert check.returncode == 0, check.stderr
    assert "1 rows unreadable" in check.stdout and "bad.jsonl:2" in check.stdout and "word for word" in check.stdout
    found = json.loads(luthier(done, "data", "check", "rows.jsonl", "--base-model", "base", "--json").stdout)
    assert found["rows"] == 60 and set(found["labels"]) == {"a", "b"} and "warnings" in found
    shown = luthier(done, "data", "preview", "recipe.yaml", "-n", "1")
    assert "rows.jsonl:1" in shown.stdout and "[[a<|im_end|>]]" in shown.stdout, shown.stderr


def test_init_writes_a_recipe_once(done: Path) -> None:
    words = ["init", "--data", "rows.jsonl", "--base-model", "base", "--out", "first.yaml"]
    made = luthier(done, *words)
    assert made.returncode == 0 and "wrote first.yaml" in made.stdout, made.stderr
    before = (done / "first.yaml").read_text()
    assert luthier(done, *words).returncode == 2 and (done / "first.yaml").read_text() == before
    assert luthier(done, *words, "--force").returncode == 0


def test_a_reader_that_leaves_early_is_no_error(done: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", COMMAND, "schema"]
    left = subprocess.run(command, cwd=done, env=environment(done), stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (left.returncode, left.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("words", ["schema", "--version"])
def test_output_that_cannot_be_written_is_one_error(tmp_path: Path, words: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", COMMAND, words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 6 and done.stderr.startswith("error: the disk is full\n  path    standard output\nhint: ")
