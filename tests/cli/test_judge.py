"""Judging at the command line: keys from a terminal or a pipe, and what a person reads."""

import json
import os
import pty
from pathlib import Path

import pytest
from tests.cli.tiny_run import luthier
from tests.jobs.judge.made import evaluated, texts
from tests.jobs.judge.server import prefers_good, serving

from luthier.cli import judge
from luthier.core.errors import RecipeError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    evaluated(tmp_path / "run", {"tuned": texts("good", 8), "zero-shot": texts("bad\x1b[2J", 8)})
    return tmp_path


def test_keys_from_a_pipe_are_kept_and_the_sides_stay_hidden(run: Path) -> None:
    done = luthier(run, "judge", "run", "--rows", "4", "--judge", "ann", "--json", stdin="ab x t\nu s q")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["judges"][0]
    assert (result["won"] + result["lost"], result["tied"], result["skipped"]) == (2, 0, 1)
    assert "tuned" not in done.stderr and "zero-shot" not in done.stderr
    assert "pair 1 of 4" in done.stderr and "`x` is no key here" in done.stderr and "\x1b" not in done.stderr
    again = luthier(run, "judge", "run", "--rows", "4", "--judge", "ann", stdin="t")
    assert again.returncode == 0 and "pair 4 of 4" in again.stderr and "pair 1" not in again.stderr
    assert "tuned against zero-shot" in again.stdout and "written to" in again.stdout


def test_without_keys_it_says_how(run: Path) -> None:
    failed = luthier(run, "judge", "run", stdin="")
    assert failed.returncode == 2 and "no terminal" in failed.stderr and "hint:" in failed.stderr


def test_a_terminal_gives_each_key_at_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        with judge._keys() as keys:
            os.write(ours, b"aT")
            pressed = [next(keys), next(keys)]
    os.close(ours)
    assert pressed == ["a", "t"]


def test_a_model_judges(run: Path) -> None:
    with serving() as server:
        server.reply = prefers_good
        done = luthier(run, "judge", "run", "--with-model", server.url, "--model", "org/judge", "--rows", "2")
    assert done.returncode == 0 and "judged 2 of 2" in done.stderr
    assert "org-judge: no detectable difference: tuned wins 100%" in done.stdout and "other order on 0%" in done.stdout


def test_a_model_needs_an_address_and_a_name(run: Path) -> None:
    with pytest.raises(RecipeError, match="an address and a name"):
        judge._endpoint("served", None, "OPENAI_API_KEY")


def test_the_same_answers_are_not_judged(tmp_path: Path) -> None:
    same = texts("same", 3)
    evaluated(tmp_path / "run", {"tuned": same, "zero-shot": same})
    done = luthier(tmp_path, "judge", "run", stdin="aaa")
    assert done.returncode == 0 and "the same on all 3 rows" in done.stderr and "no pair is judged" in done.stdout
