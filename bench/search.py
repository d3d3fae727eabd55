"""Does a search find better values on a real task, and survive SIGKILL? Resumable.

The tones example with its own space, fewer steps a trial. Everything is killed in the middle of a training, and the
search goes on with `--resume`. Then the recipe's own values and the best ones are each run and measured on the test
rows, which no trial has seen. Writes docs/proof/search.md.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from luthier.core.settings import cache_dir
from luthier.model.device import hardware

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "proof" / "search.md"
WORK = cache_dir() / "bench" / "search"
EXAMPLE = ROOT / "examples" / "tones"
LUTHIER = (str(Path(sys.executable).with_name("luthier")),)
KILLED, KILLED_AT = 3, 12
"""The trial in which everything is killed, and the training step after which."""


def main() -> None:
    """Search with a kill in the middle, run both, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40, help="training steps of each trial")
    parser.add_argument("--trials", type=int, default=12, help="trials beside the recipe's own values")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    folder = WORK / "search"
    steps = ("--set", f"train.steps={options.steps}")
    recipe = (str(EXAMPLE / "recipe.yaml"), *steps)
    search = (*LUTHIER, "search", *recipe, "--space", str(EXAMPLE / "space.yaml"), "--out", str(folder), "--json")
    search += ("--trials", str(options.trials))
    kill = WORK / "killed.json"
    if not kill.exists():
        kill.write_text(json.dumps(killed(search, folder)), encoding="utf-8")
    found = json.loads(said((*search, "--resume")))
    systems = {
        "the recipe's own values": measured(WORK / "own", recipe),
        "the best trial's": measured(WORK / "best", (str(found["recipe"]),)),
    }
    PAGE.write_text(page(found, json.loads(kill.read_text()), systems, options.steps), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def killed(search: tuple[str, ...], folder: Path) -> dict[str, int]:
    """Begin the search, SIGKILL all of it in the middle of a training, and say at which step."""
    metrics = folder / "trials" / f"{KILLED:04d}" / "train" / "metrics.jsonl"
    with (WORK / "log.txt").open("a") as log:
        begun = subprocess.Popen(search, stdout=log, stderr=log, start_new_session=True)
        while steps_in(metrics) < KILLED_AT:
            if begun.poll() is not None:
                sys.exit(f"the search ended before it was killed: {WORK / 'log.txt'}")
            time.sleep(1)
        for process in (*psutil.Process(begun.pid).children(recursive=True), psutil.Process(begun.pid)):
            process.kill()
        begun.wait()
    return {"trial": KILLED, "step": steps_in(metrics)}


def steps_in(metrics: Path) -> int:
    """Return the training steps that a file of metrics tells of."""
    return sum('"loss"' in line for line in metrics.read_text().splitlines()) if metrics.exists() else 0


def measured(out: Path, recipe: tuple[str, ...]) -> dict[str, Any]:
    """Run a recipe whole, and return its report on the test rows."""
    report = out / "evaluate" / "report.json"
    if not report.exists():
        said((*LUTHIER, "run", *recipe, "--out", str(out), "--json", *(("--resume",) if out.exists() else ())))
    whole = json.loads(report.read_text(encoding="utf-8"))
    tuned = next(system for system in whole["systems"] if system["name"] == "tuned")
    return {"rows": whole["test_rows"], "metrics": tuned["metrics"]}


def said(command: tuple[str, ...]) -> str:
    """Run a command and return what it prints on stdout."""
    with (WORK / "log.txt").open("a") as log:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=True).stdout


def page(found: dict[str, Any], kill: dict[str, int], systems: dict[str, dict[str, Any]], steps: int) -> str:
    """Return the page."""
    machine = hardware()
    own, best = (next(t for t in found["trials"] if t["number"] == n) for n in (0, found["best"]))
    rows = next(iter(systems.values()))["rows"]
    lines = [
        "# A search on a real task",
        "",
        f"`python bench/search.py`: `examples/tones` with {steps} steps a trial, its own `space.yaml` "
        f"({found['sampler']}, {found['pruner']} pruner, {found['asked']} trials beside the recipe's own values), "
        f"{machine.cpu}, {machine.cores} cores, {platform.system()}. In trial {kill['trial']}, after step "
        f"{kill['step']} of {steps}, all processes were killed (SIGKILL); `--resume` did the rest.",
        "",
        f"**{found['conclusion']}**",
        "",
        f"| on {found['validation_rows']} validation rows | validation loss | training, s | values |",
        "|---|---|---|---|",
        *(line(name, trial) for name, trial in (("the recipe's own", own), (f"trial {best['number']}", best))),
        "",
        f"| on {rows} test rows, which no trial saw | accuracy | macro-F1 | perplexity |",
        "|---|---|---|---|",
        *(
            f"| {name} | {' | '.join(value(one['metrics'][m]) for m in ('accuracy', 'macro_f1', 'perplexity'))} |"
            for name, one in systems.items()
        ),
        "",
        "## All trials",
        "",
        "| trial | state | validation loss | values |",
        "|---|---|---|---|",
    ]
    for trial in found["trials"]:
        loss = "" if trial["validation_loss"] is None else f"{trial['validation_loss']:.4f}"
        lines.append(f"| {trial['number']} | {trial['state']} | {loss} | {tried(trial)} |")
    return "\n".join(lines) + "\n"


def line(name: str, trial: dict[str, Any]) -> str:
    """Return a trial as a line of the first table."""
    return f"| {name} | {trial['validation_loss']:.4f} | {trial['seconds']:.0f} | {tried(trial)} |"


def tried(trial: dict[str, Any]) -> str:
    """Return a trial's values."""
    short = {path: f"{v:.2g}" if isinstance(v, float) else str(v) for path, v in trial["tried"].items()}
    return ", ".join(f"{path.split('.')[-1]} {text}" for path, text in short.items())


def value(metric: dict[str, float]) -> str:
    """Return a number with its interval."""
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


if __name__ == "__main__":
    main()
