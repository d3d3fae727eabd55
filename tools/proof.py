"""Write docs/proof/: the full-size tests as a table of claims, the demo's report, and the race against TRL.

python tools/proof.py [tests] [demo] [race]     (all three when none is named)

A test makes a claim with pytest's `record_property("claim", …)`; the numbers it records beside it are shown at
their worst.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from luthier.model.device import hardware

ROOT = Path(__file__).resolve().parent.parent
PROOF = ROOT / "docs" / "proof"
PARTS = ("tests", "demo", "race")


def main() -> int:
    """Do the parts named on the command line; return the first exit status that is not 0."""
    PROOF.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or list(PARTS)
    statuses = [{"tests": tests, "demo": demo, "race": race}[part]() for part in PARTS if part in wanted]
    return next((status for status in statuses if status), 0)


def tests() -> int:
    """Run every test in its full size and write the claims they make."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        environment = os.environ | {"LUTHIER_PROOF": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "pytest", "-m", "", "--timeout=0", f"--junitxml={results}"]
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        (PROOF / "tests.md").write_text(claims_table(results), encoding="utf-8")
    return status


def claims_table(results: Path) -> str:
    """Return the claims of a test run as Markdown."""
    suite = ElementTree.parse(results).getroot().find("testsuite")
    groups: dict[str, list[tuple[bool, dict[str, float]]]] = defaultdict(list)
    for passed, properties in cases(suite):
        if "claim" in properties:
            claim = properties.pop("claim")
            groups[claim].append((passed, {name: float(value) for name, value in properties.items()}))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    lines = [
        "# Claims and the tests that hold them",
        "",
        f"`make proof` on {machine()}: {counts['tests']} tests, {counts['failures'] + counts['errors']} failed, "
        f"{counts['skipped']} skipped, {float(suite.get('time', 0)) / 60:.0f} min.",
        "",
        "| claim | cases | passed | numbers, at their worst |",
        "|---|---|---|---|",
    ]
    for claim, outcomes in sorted(groups.items()):
        numbers = {name: max(values[name] for _, values in outcomes) for name in outcomes[0][1]}
        text = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in numbers.items())
        lines.append(f"| {claim} | {len(outcomes)} | {sum(passed for passed, _ in outcomes)} | {text} |")
    return "\n".join(lines) + "\n"


def cases(suite: ElementTree.Element) -> Iterator[tuple[bool, dict[str, str]]]:
    """Yield for each test whether it passed, and the properties it recorded."""
    for case in suite.iter("testcase"):
        passed = not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        yield passed, {p.get("name"): p.get("value") for p in case.iter("property")}


def demo() -> int:
    """Run the demo afresh and write its report."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        command = [str(Path(sys.executable).parent / "luthier"), "run", "examples/tones/recipe.yaml", "--out", str(out)]
        started = time.perf_counter()
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        minutes = (time.perf_counter() - started) / 60
        if status == 0:
            head = f"`make demo` took {minutes:.1f} min on {machine()}.\n\n"
            report = (out / "evaluate" / "report.md").read_text(encoding="utf-8")
            (PROOF / "demo.md").write_text(head + report, encoding="utf-8")
    return status


def race() -> int:
    """Race against TRL."""
    return subprocess.run([sys.executable, "bench/race.py"], cwd=ROOT, check=False).returncode


def machine() -> str:
    """Return this machine in words."""
    facts = hardware()
    return f"{facts.cpu}, {facts.cores} cores, {platform.system()}, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
