"""What peers had and Luthier has not: shown by what can be imported, what is installed, and what the source says."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from tests.laws.source import ROOT, SOURCE, clean_environment, dotted, module_names, source_files, tree_of
from tests.laws.test_unsafe import breaches_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ABSENT = ("deepspeed", "ray", "gradio", "lightning", "pytorch_lightning", "zmq")
SCANNERS = ("picklescan", "modelscan", "fickling")
STARTERS = ("subprocess.Popen", "subprocess.run", "subprocess.call", "subprocess.check_output", "os.execv", "os.spawnv")
FLOORS = {"torch": "2.11", "transformers": "5.3", "starlette": "1.3.1", "python-multipart": "0.0.27"}
OLD = ("0.0.1", "0.0.26", "1.0", "1.3.0", "2.10.0", "5.2.9")
WIRE = ("src/luthier/api/", "src/luthier/jobs/service/", "src/luthier/serve/", "src/luthier/cli/")


def requirements() -> Iterator[Requirement]:
    extras = PROJECT["optional-dependencies"]
    yield from map(Requirement, [*PROJECT["dependencies"], *extras["serve"], *extras["gguf"], *extras["trackers"]])


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in source_files():
        yield from ((path, node) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


def imported(names: tuple[str, ...]) -> list[str]:
    """Return which of these modules some file of the package imports, at any place in it."""
    found = []
    for path in source_files():
        for node in ast.walk(tree_of(path)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in modules if name.split(".")[0] in names]
    return found


def test_cve_2024_43497_deepspeed_is_absent_and_commands_are_lists() -> None:
    assert util.find_spec("deepspeed") is None and not imported(("deepspeed",))
    starts = [(path, call) for path, call in calls() if dotted(call.func) in STARTERS]
    assert starts, "the law must see the package's own children"
    for path, call in starts:
        command = call.args[0]
        built = isinstance(command, ast.JoinedStr | ast.BinOp) or (
            isinstance(command, ast.Constant) and isinstance(command.value, str)
        )
        assert not built and not any(keyword.arg == "shell" for keyword in call.keywords), path


@pytest.mark.parametrize("name", ABSENT)
def test_what_peers_were_hurt_by_is_neither_imported_nor_required(name: str) -> None:
    assert not imported((name,))
    assert name not in {requirement.name for requirement in requirements()}


def test_mlflow_is_an_extra_and_only_its_client_writes_curves() -> None:
    assert {place.split(":")[0] for place in imported(("mlflow",))} == {"trackers.py"}
    assert "mlflow" not in {requirement.name for requirement in requirements()}


def test_cve_2026_3059_2026_14890_2026_86793_2026_93034_2026_93088_no_pickle_on_the_wire() -> None:
    wire = [path for path in source_files() if str(path.relative_to(ROOT)).startswith(WIRE)]
    assert len(wire) > 20
    pickles = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "zmq", "msgpack")
    assert not imported(pickles)
    assert not [path for path in wire if re.search(r"\bmultiprocessing\b", path.read_text())], "queues of it pickle"
    code = (
        f"import sys, importlib; [importlib.import_module(n) for n in {service_modules()!r}]; print(list(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout.strip().splitlines()[-1]))
    assert not loaded & {"dill", "cloudpickle", "joblib", "zmq", "ray", "gradio", "mlflow"}


def service_modules() -> list[str]:
    parts = ("luthier.api.", "luthier.jobs.service.")
    return [name for name in module_names() if name.startswith(parts) and not name.endswith("worker")]


def test_cve_2025_1716_no_scanner_decides() -> None:
    assert not imported(SCANNERS)
    names = {requirement.name for requirement in requirements()}
    assert not names & set(SCANNERS)


def test_cve_2026_64849_no_webhook_and_no_client_of_other_servers() -> None:
    clients = imported(("requests", "httpx", "httpx2", "urllib3", "aiohttp", "http", "urllib", "ftplib", "smtplib"))
    # `luthier judge --with-model` asks the address that a person types; the service does not know it. Engines ask the
    # child that they started, and the addresses that the owner wrote into service.yaml: none comes with a request.
    engines = {"llama_child.py", "llama_http.py", "remote.py"}
    assert {name.partition(":")[0] for name in clients} == {"endpoint.py", *engines}
    opening = [path.name for path in source_files() if "open_remote(" in path.read_text()]
    assert sorted(opening) == ["inference.py", "open.py"]
    assert not [path for path in source_files() if path.match("*/api/**") and "jobs.judge" in path.read_text()]
    assert not [path for path in source_files() if "service" in path.parts and "jobs.judge" in path.read_text()]
    wire = [path for path in source_files() if str(path.relative_to(ROOT)).startswith(WIRE)]
    assert not [path for path in wire if "webhook" in path.read_text().lower()]


def test_cve_2025_51480_2026_27489_2026_34446_2026_34447_only_onnx_that_was_just_built_is_read() -> None:
    reads = re.compile(r"^\s*(import|from) onnx(runtime)?\b", re.MULTILINE)
    found = [path for path in source_files() if reads.search(path.read_text())]
    assert found and all("export/formats" in str(path) for path in found)
    # Its weights are never read from beside it by the library whose reader of external files was hurt.
    texts = [path.read_text() for path in found]
    loads = [line for text in texts for line in text.splitlines() if "onnx.load(" in line]
    assert loads and all("load_external_data=False" in line for line in loads)


def test_cve_2025_32434_no_loader_of_pickles_is_called() -> None:
    breaches = [
        f"{path.name}:{node.lineno} {why}" for path in source_files() for node, why in breaches_of(tree_of(path))
    ]
    assert not breaches


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_s8_floors_are_required_and_installed(name: str, floor: str) -> None:
    wanted = next(requirement for requirement in requirements() if requirement.name == name)
    below = [version for version in OLD if Version(version) < Version(floor)]
    assert not any(wanted.specifier.contains(version) for version in below), f"{wanted} lets a vulnerable one in"
    assert Version(metadata.version(name)) >= Version(floor)


def test_s8_nothing_unsafe_by_ruff() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "S", "--no-cache", "--output-format=json"]
    done = subprocess.run([*command, str(SOURCE)], cwd=ROOT, capture_output=True, text=True)
    found = [f"{hit['filename']}:{hit['location']['row']} {hit['code']}" for hit in json.loads(done.stdout)]
    assert done.returncode == 0 and not found


def test_s8_every_silenced_warning_has_its_reason() -> None:
    bare = []
    for path in source_files():
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            said = re.search(r"# noqa: S\d+(.*)", line)
            if said and not said[1].strip() and not lines[number - 2].strip().startswith("#"):
                before = "\n".join(lines[max(0, number - 4) : number - 1])
                bare += [] if "#" in before else [f"{path.relative_to(ROOT)}:{number}"]
    assert not bare, bare
