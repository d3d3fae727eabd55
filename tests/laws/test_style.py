"""Lint, formatting and docstrings, as `make check` sees them."""

import subprocess
import sys

from tests.laws.source import ROOT, clean_environment


def ruff(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=clean_environment())


def test_ruff_finds_nothing() -> None:
    checked = ruff("check", "--output-format=concise")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_all_files_are_formatted() -> None:
    checked = ruff("format", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
