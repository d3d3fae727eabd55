"""What the package imports is declared, and what is declared is used."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.laws.source import ROOT, SOURCE, at, imports_of, source_files, tree_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DISTRIBUTIONS = packages_distributions()
# Needed by a library that Luthier calls for the work it asks of it, and imported there.
NEEDED_WITHIN = {"accelerate", "tensorboard", "python-multipart", "onnx-ir", "cmaes"}
# What an extra brings may be imported where it is needed, and nowhere else.
PLACES = {
    "serve": ("src/luthier/api/", "src/luthier/serve/", "src/luthier/jobs/service/", "src/luthier/cli/serve.py"),
    "onnx": ("src/luthier/export/formats/onnx", "src/luthier/serve/engines/onnx", "src/luthier/jobs/export/forms.py"),
    "llama-cpp": ("src/luthier/serve/engines/llama_child.py",),
    "lm-eval": ("src/luthier/evaluate/harness",),
    "mlflow": ("src/luthier/jobs/trackers.py",),
    "wandb": ("src/luthier/jobs/trackers.py",),
    "trackio": ("src/luthier/jobs/trackers.py",),
    "bitsandbytes": ("src/luthier/train/optimizers/build.py",),
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(lines: list[str]) -> set[str]:
    return {normal(re.split(r"[<>=!~\[; ]", line)[0]) for line in lines}


def imported() -> dict[str, str]:
    """Return where each distribution is imported; what Python itself brings is left out."""
    found: dict[str, str] = {}
    for path in source_files():
        for node in ast.walk(tree_of(path)):
            modules = imports_of(node) if isinstance(node, ast.Import | ast.ImportFrom) else []
            for module in {name.split(".")[0] for name in modules} - {"luthier"} - sys.stdlib_module_names:
                names = DISTRIBUTIONS.get(module, [module])
                found |= {normal(name): at(path, node) for name in names}
    return found


EXTRAS = PROJECT["project"]["optional-dependencies"]


def is_extra(name: str, place: str) -> bool:
    return any(name in names_of(EXTRAS[extra]) and place.startswith(places) for extra, places in PLACES.items())


def test_what_is_imported_is_declared() -> None:
    declared = names_of(PROJECT["project"]["dependencies"])
    missing = [
        f"{place} imports {name}"
        for name, place in sorted(imported().items())
        if name not in declared and not is_extra(name, place)
    ]
    assert not missing, "not among the dependencies in pyproject.toml:\n" + "\n".join(missing)


def test_what_is_declared_is_used() -> None:
    declared = names_of(PROJECT["project"]["dependencies"])
    declared |= names_of([line for extra in ("gguf", "trackers", *PLACES) for line in EXTRAS[extra]])
    unused = declared - set(imported()) - NEEDED_WITHIN
    assert not unused, f"declared in pyproject.toml and imported nowhere: {sorted(unused)}"


def test_files_beside_the_code_are_packed() -> None:
    packed = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    beside = [path for path in SOURCE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    missing = [str(path.relative_to(ROOT)) for path in beside if not any(path.match(pattern) for pattern in packed)]
    assert not missing, f"not packed by [tool.setuptools.package-data]: {missing}"
