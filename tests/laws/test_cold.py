"""The cold parts load no heavy library, measured in fresh processes; help answers at once."""

import subprocess
import sys
import time
from pathlib import Path

from tests.laws.source import clean_environment, module_names

HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "sklearn", "matplotlib", "tensorboard")
COLD = (
    "luthier.core",
    "luthier.recipe_io",
    "luthier.advise",
    "luthier.jobs",
    "luthier.cli",
    "luthier.api",
    "luthier.score",
    "luthier.examples",
)
NO_ARROW = ("luthier.core", "luthier.cli", "luthier.recipe")
LUTHIER = str(Path(sys.executable).with_name("luthier"))

WATCH = """
import importlib, sys
names, heavy = sys.argv[1].split(","), sys.argv[2].split(",")
for name in names:
    importlib.import_module(name)
    loaded = [library for library in heavy if library in sys.modules]
    if loaded:
        sys.exit(f"importing {name} loads {', '.join(loaded)}")
"""


def watch(names: list[str], heavy: tuple[str, ...]) -> None:
    """Import modules in a fresh process and fail with the first that loads a heavy library."""
    command = [sys.executable, "-c", WATCH, ",".join(names), ",".join(heavy)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 0, done.stderr


def under(parts: tuple[str, ...]) -> list[str]:
    return [name for name in module_names() if any(name == part or name.startswith(part + ".") for part in parts)]


def test_package_recipe_and_specs_are_cold() -> None:
    specs = [name for name in module_names() if name.endswith(".spec")]
    assert len(specs) >= 5
    watch(["luthier", "luthier.recipe", *specs], HEAVY)


def test_cold_floors_are_cold() -> None:
    watch(under(COLD), tuple(library for library in HEAVY if library != "sklearn"))


def test_recipe_and_command_line_do_without_arrow() -> None:
    watch(under(NO_ARROW), (*HEAVY, "pyarrow", "pandas"))


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from luthier.cli.main import main\ntry: main()\nfinally: sys.stderr.write(','.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"run", "init", "data", "evaluate", "chat", "runs", "doctor"} <= set(done.stdout.replace("│", " ").split())
    assert not set(done.stderr.split(",")) & set(HEAVY)


def test_help_answers_within_three_times_a_bare_typer_import() -> None:
    # Noise only ever adds time, so the best of several tries is compared; more tries when a loaded machine is slow.
    bare, shown = seconds([sys.executable, "-c", "import typer"]), seconds([LUTHIER, "--help"])
    for _ in range(12):
        bare = min(bare, seconds([sys.executable, "-c", "import typer"]))
        shown = min(shown, seconds([LUTHIER, "--help"]))
        if shown <= 2.5 * bare:
            break
    assert shown <= 3 * bare, f"luthier --help takes {shown:.2f} s, importing typer {bare:.2f} s"


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=clean_environment())
    return time.perf_counter() - begin
