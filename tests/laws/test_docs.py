"""The documents name only commands, options and recipe fields that exist."""

import re
from pathlib import Path

import pytest
import typer
from tests.laws.source import ROOT

from luthier.cli.app import app
from luthier.core.describe import field_rows
from luthier.core.yaml import parse_yaml
from luthier.recipe import Recipe

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIELDS = {row.path for row in field_rows(Recipe)}
COMMAND = re.compile(r"(?<![\w/-])luthier ((?:[a-z-]+|RUN|[\w./]+)(?: [^`\n|#]*)?)")


def blocks(text: str) -> list[str]:
    """Return the fenced blocks and the words in backticks."""
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def told_commands(page: Path) -> list[list[str]]:
    """Return the words of each `luthier …` command on a page."""
    found = [COMMAND.findall(block) for block in blocks(page.read_text(encoding="utf-8"))]
    return [command.split() for commands in found for command in commands]


def unknown_in(words: list[str]) -> str | None:
    """Return the first word of a command line that the program does not know."""
    command, rest = typer.main.get_command(app), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    if rest == words:
        return words[0]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
    return next((word for word in rest if word.startswith("-") and word.split("=")[0] not in options), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    unknown = [(" ".join(words), unknown) for words in told_commands(page) if (unknown := unknown_in(words))]
    assert not unknown, f"{page.name} tells of what does not exist: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipe_fields_exist(page: Path) -> None:
    named = re.findall(r"(?:`|--set )((?:data|train|evaluate)\.[a-z_.]+[a-z_])\b", page.read_text(encoding="utf-8"))
    unknown = [path for path in named if path not in FIELDS and not (ROOT / "src" / "luthier" / path).exists()]
    assert not unknown, f"{page.name} names fields that do not exist: {unknown}"


def test_recipe_in_the_readme_is_a_recipe() -> None:
    text = re.findall(r"^```yaml\n(.*?)^```", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert text, "the README shows no recipe"
    assert Recipe.model_validate(parse_yaml(text[0], name="README.md").value).seed == 7


def test_the_law_sees_what_does_not_exist() -> None:
    assert unknown_in(["fly"]) == "fly"
    assert unknown_in(["run", "recipe.yaml", "--faster"]) == "--faster"
    assert unknown_in(["data", "check", "my.jsonl", "--json"]) is None
