"""What the laws share: the project's files, their syntax trees, and how a breach is named."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import luthier

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "luthier"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def source_files() -> list[Path]:
    """Return the package's Python files."""
    return sorted(SOURCE.rglob("*.py"))


def files_of_tests() -> list[Path]:
    """Return the files that hold tests."""
    return sorted((ROOT / "tests").rglob("test_*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions_of(path: Path) -> Iterator[Function]:
    """Yield all functions and methods of a file, also the nested ones."""
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, Function))


def at(path: Path, node: ast.AST | None = None) -> str:
    """Name a place as `file:line`, for messages that an editor can follow."""
    line = getattr(node, "lineno", 1)
    return f"{path.relative_to(ROOT)}:{line}"


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for a chain of names, and an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def imports_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the modules that an import statement names, absolutely."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if node.level == 0 else []


def module_names() -> list[str]:
    """Return the dotted names of all modules of the package."""
    found = pkgutil.walk_packages([str(SOURCE)], prefix="luthier.", onerror=lambda name: None)
    return ["luthier", *sorted(module.name for module in found)]


def all_specs() -> list[type]:
    """Return all Spec classes of the package, in order of their names."""
    from luthier.core.spec import Spec

    for path in source_files():
        if re.search(r"^class \w+\(.*Spec\):", path.read_text(encoding="utf-8"), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
    return sorted(_below(Spec), key=lambda spec: f"{spec.__module__}.{spec.__name__}")


def _below(kind: type) -> set[type]:
    found = {kind for kind in kind.__subclasses__() if kind.__module__.startswith("luthier.")}
    return found | {deeper for below in found for deeper in _below(below)}


def project_files() -> list[Path]:
    """Return the files that are, or would be, under version control."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, f"git cannot list the project's files: {listed.stderr}"
    return sorted(ROOT / name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file())


def text_of(path: Path) -> str | None:
    """Return a file's text, or None where it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def clean_environment() -> dict[str, str]:
    """Return the environment for a fresh process: one thread, no network, nothing else changed."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


assert Path(luthier.__path__[0]).resolve() == SOURCE.resolve(), "the tests must see the package of this checkout"
