"""Imports go down only, and the cold parts name no heavy library."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.laws.source import ROOT, SOURCE, at, clean_environment, imports_of, source_files, tree_of

HEAVY = {"torch", "transformers", "peft", "datasets", "accelerate", "trl"}
COLD_FOLDERS = ("core", "recipe_io", "advise", "jobs", "cli", "api", "score", "examples")


def test_floors_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=clean_environment())
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_part_of_the_package_stands_on_a_floor() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = settings["contracts"][0]["layers"]
    floors = {name.strip().removeprefix("luthier.") for layer in layers for name in layer.split("|")}
    parts = {path.stem if path.suffix == ".py" else path.name for path in SOURCE.iterdir()}
    parts = {part for part in parts if not part.startswith("_")}
    assert parts == floors, (
        f"without a floor in pyproject.toml: {parts - floors}; floors without a part: {floors - parts}"
    )


def is_cold(path: Path) -> bool:
    inside = path.relative_to(SOURCE)
    return inside.parts[0] in COLD_FOLDERS or len(inside.parts) == 1 or inside.name == "spec.py"


def test_cold_parts_import_nothing_heavy_at_the_top() -> None:
    breaches = []
    for path in filter(is_cold, source_files()):
        for node in top_level_imports(tree_of(path).body):
            heavy = [name for name in imports_of(node) if name.split(".")[0] in HEAVY]
            breaches += [
                f"{at(path, node)} imports {name}; import it inside the function that needs it" for name in heavy
            ]
    assert not breaches, "\n".join(breaches)


def top_level_imports(body: list[ast.stmt]) -> list[ast.Import | ast.ImportFrom]:
    found: list[ast.Import | ast.ImportFrom] = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test)):
            found += top_level_imports(node.body)
    return found
