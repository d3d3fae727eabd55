"""What a person sees, kept word for word; `LUTHIER_SNAPSHOTS=write` writes the files anew: read the diff."""

import json
import os
from pathlib import Path

import pytest
from tests.cli.tiny_run import luthier

SNAPSHOTS = Path(__file__).with_name("snapshots")

HELP = ["", "init", "advise", "estimate", "run", "search", "finetune", "evaluate", "chat", "predict", "judge"]
HELP += ["data check", "data preview", "runs", "runs compare", "diagnose", "doctor", "show", "compose"]
SHOWN = ["show adapters", "show methods", "show formats", "show metrics", "show recipe", "--version"]
ERRORS = {
    "unknown-command": ["rnu"],
    "unknown-option": ["run", "recipe.yaml", "--reusme"],
    "missing-recipe": ["run", "none.yaml"],
    "unknown-key": ["run", "unknown-key.yaml"],
    "impossible-value": ["run", "impossible-value.yaml"],
    "wrong-set": ["run", "recipe.yaml", "--set", "train.learning_rat=1"],
    "missing-data": ["run", "recipe.yaml", "--set", "data=rovs.jsonl"],
    "missing-model": ["run", "recipe.yaml", "--set", "base_model=./no-model"],
    "unknown-run": ["evaluate", "nothing"],
    "recipe-exists": ["init", "--data", "rows.jsonl", "--out", "recipe.yaml"],
    "unknown-gpu": ["estimate", "recipe.yaml", "--gpu", "RTX 4091"],
    "out-is-no-run": ["run", "recipe.yaml", "--out", "folder"],
    "out-cannot-be-written": ["run", "recipe.yaml", "--out", "rows.jsonl/run"],
}
STATUS = {"missing-data": 3, "missing-model": 4, "out-cannot-be-written": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("home")
    (made / "recipe.yaml").write_text("data: rows.jsonl\n")
    (made / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (made / "unknown-key.yaml").write_text("data: rows.jsonl\ntrain:\n  epoch: 3\n  batchsize: 8\n")
    (made / "impossible-value.yaml").write_text("data: rows.jsonl\n\ntrain: {learning_rate: fast}\n")
    (made / "folder").mkdir()
    (made / "folder" / "thesis.tex").write_text("")
    return made


def same(name: str, text: str) -> None:
    """Compare with the snapshot, or write it where that is asked for."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("LUTHIER_SNAPSHOTS") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path.name} differs"


def plain(text: str, folder: Path) -> str:
    lines = text.replace(str(folder), "HOME").replace(folder.name, "HOME").splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.parametrize("words", HELP)
def test_help(words: str, folder: Path) -> None:
    shown = luthier(folder, *words.split(), "--help")
    assert shown.returncode == 0 and not shown.stderr
    same(f"help-{words.replace(' ', '-') or 'luthier'}", plain(shown.stdout, folder))


@pytest.mark.parametrize("words", SHOWN)
def test_show(words: str, folder: Path) -> None:
    shown = luthier(folder, *words.split())
    assert shown.returncode == 0 and not shown.stderr
    same(words.strip("-").replace(" ", "-"), plain(shown.stdout, folder))


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str, folder: Path) -> None:
    failed = luthier(folder, *ERRORS[name])
    assert failed.returncode == STATUS.get(name, 2) and failed.stdout == ""
    same(f"error-{name}", plain(failed.stderr, folder))
    assert not (folder / "runs").exists() or not list((folder / "runs").iterdir()), "a failed start left a run"


def test_errors_for_programs(folder: Path) -> None:
    failed = luthier(folder, "run", "unknown-key.yaml", "--json")
    error = json.loads(failed.stdout)["error"]
    assert (error["code"], error["where"]["line"], error["hint"]) == ("bad_recipe", "3", "did you mean `train.epochs`?")


def test_the_schema_is_one(folder: Path) -> None:
    schema = json.loads(luthier(folder, "schema").stdout)
    assert schema["additionalProperties"] is False and "base_model" in schema["properties"]
