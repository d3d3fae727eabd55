"""`luthier keys` and `luthier deployments`."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.cli.serving import own
from tests.cli.tiny_run import COMMAND

from luthier.jobs.service.service import open_service


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, cwd=folder, env=own(folder), capture_output=True, text=True, timeout=120)


def test_a_secret_is_shown_once_and_nowhere_kept(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "ci", "--project", "p-1", "--admin")
    secret = made.stdout.strip()
    assert made.returncode == 0 and re.fullmatch(r"sk-ft-[\w-]{51}", secret) and "shown once" in made.stderr
    kept = json.loads(run(tmp_path, "keys", "list", "--json").stdout)
    assert [(key["name"], key["project_id"], key["admin"], key["last4"]) for key in kept] == [
        ("ci", "p-1", True, secret[-4:])
    ]
    assert kept[0]["revoked_at"] is None
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    service = open_service(tmp_path / "home")
    assert service.keys.check(secret).id == kept[0]["id"]
    service.database.close()


def test_keys_are_listed_and_revoked(tmp_path: Path) -> None:
    made = json.loads(run(tmp_path, "keys", "create", "old", "--json").stdout)
    revoked = run(tmp_path, "keys", "revoke", made["id"])
    assert (revoked.returncode, revoked.stdout, revoked.stderr) == (0, "", f"revoked: {made['id']}\n")
    listed = run(tmp_path, "keys", "list").stdout
    assert re.search(rf"{made['id']} +old +…{made['last4']} +default +\d{{4}}-\d\d-\d\d", listed)
    service = open_service(tmp_path / "home")
    assert service.keys.check(made["secret"]) is None
    service.database.close()


def test_what_cannot_be_is_one_error(tmp_path: Path) -> None:
    for words, told in (
        (["keys", "revoke", "key_none"], "error: No such Key object: key_none"),
        (["keys", "create", "a", "--project", "../x"], "error: A project's id is made of letters"),
        (["keys", "create", ""], "error: A key's name has 1 to 80 characters."),
        (["deployments", "create", "support", "none"], "error: The model 'none' does not exist"),
        (["deployments", "delete", "none"], "error: The API deployment for this resource does not exist."),
    ):
        failed = run(tmp_path, *words)
        assert failed.returncode == 2 and failed.stdout == "" and failed.stderr.startswith(told), failed.stderr


def test_deployments_are_made_listed_and_deleted(tmp_path: Path) -> None:
    base = "smollm2-135m-instruct"
    made = run(tmp_path, "deployments", "create", "support", base)
    assert (made.returncode, made.stdout) == (0, f"support → {base}\n"), made.stderr
    listed = json.loads(run(tmp_path, "deployments", "list", "--json").stdout)
    assert [(one["id"], one["model"]) for one in listed] == [("support", base)]
    assert "support" in run(tmp_path, "deployments", "list").stdout
    assert json.loads(run(tmp_path, "deployments", "list", "--project", "other", "--json").stdout) == []
    assert run(tmp_path, "deployments", "delete", "support").stderr == "deleted: support\n"
    assert json.loads(run(tmp_path, "deployments", "list", "--json").stdout) == []
