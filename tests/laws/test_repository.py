"""The repository holds what it should and nothing of the machine it was written on."""

import re
import tomllib
from pathlib import Path

from tests.laws.source import ROOT, project_files, text_of

import luthier

# Written so that these patterns do not find themselves.
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|tmp/lab|opt/(?:pypi|wheels))(?:/|\b)|file:/{2}/|\.py[e]nv/")
REGISTRY = re.compile(r"--(?:extra-)?index-ur[l]|--find-link[s]|--trusted-hos[t]|PIP_\w*UR[L]")
MODEL_FILES = {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".onnx", ".ckpt", ".pkl", ".npz", ".arrow", ".whl"}
LARGEST_BYTES = 500_000
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Return `file:line: text` for each line of the project that a pattern finds."""
    found = []
    for path in project_files():
        lines = (text_of(path) or "").splitlines()
        found += [
            f"{path.relative_to(ROOT)}:{n}: {line.strip()[:100]}"
            for n, line in enumerate(lines, 1)
            if pattern.search(line)
        ]
    return found


def test_no_path_of_a_machine() -> None:
    found = lines_with(MACHINE)
    assert not found, "\n".join(found)


def test_no_registry_is_named() -> None:
    found = lines_with(REGISTRY)
    assert not found, "\n".join(found)


def test_patterns_find_what_they_should() -> None:
    assert MACHINE.search("see " + "/".join(["", "work", "main"])) and MACHINE.search("file:" + "///x")
    inner, address = "src" + "/".join(["", "work", "main.py"]), "https://e.org" + "/".join(["", "work", "x"])
    assert not MACHINE.search(inner) and not MACHINE.search(address)
    assert REGISTRY.search("pip install --index-" + "url x")


def test_no_weights_and_nothing_large() -> None:
    weights = [path for path in project_files() if path.suffix in MODEL_FILES]
    large = [path for path in project_files() if path.stat().st_size > LARGEST_BYTES]
    assert not weights + large, "\n".join(str(path.relative_to(ROOT)) for path in weights + large)


def test_version_is_one() -> None:
    assert luthier.__version__ == PYPROJECT["project"]["version"]


def test_locks_pin_every_package_plainly() -> None:
    lines = [
        line
        for name in ("requirements.lock", "requirements-bench.lock")
        for line in (ROOT / name).read_text().splitlines()
    ]
    odd = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    assert lines and not odd, odd


def test_locks_hold_what_the_package_needs() -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["serve"], *extras["dev"], *extras["bench"]]
    text = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-bench.lock").read_text()
    locked = {normal(line.split("==")[0]) for line in text.splitlines()}
    names = {normal(re.split(r"[<>=!~\[; ]", line)[0]) for line in wanted}
    assert names <= locked, f"not locked: {sorted(names - locked)}"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in (path for path in project_files() if path.suffix == ".md"):
        targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8"))
        broken += [f"{path.relative_to(ROOT)} → {target}" for target in targets if not (path.parent / target).exists()]
    assert not broken, "\n".join(broken)


def test_demo_rows_are_balanced_and_name_their_source() -> None:
    folder = ROOT / "examples" / "tones"
    tones = re.findall(r'"tone": "(\w+)"\}$', (folder / "tones.jsonl").read_text(encoding="utf-8"), re.MULTILINE)
    assert {tone: tones.count(tone) for tone in set(tones)} == {"negative": 600, "neutral": 600, "positive": 600}
    source = (folder / "SOURCE.md").read_text(encoding="utf-8")
    assert "Hutto" in source and "The MIT License" in source


def test_root_is_the_repository() -> None:
    assert Path("pyproject.toml") in {path.relative_to(ROOT) for path in project_files()}
