"""Every scenario of the notes by every way of training: `matrix.py [--only SCENARIO]… [--page]`; resumable.

Each cell is a whole run (data, training, evaluation) on real rows in a process of its own, all with the same rows,
epochs and seed. A cell that fails is told on the page, is tried again by the next call, and makes this one end with 1.
`--rows`, `--held-out`, `--epochs` and `--answer-tokens` say how large a cell is. Writes docs/proof/matrix.md.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advise_data import write
from luthier.core.errors import RecipeError
from luthier.core.events import Event
from luthier.core.settings import cache_dir
from luthier.model.device import hardware

PAGE = Path(__file__).parents[1] / "docs" / "proof" / "matrix.md"
WORK = cache_dir() / "bench" / "matrix"
STATE = WORK / "state.json"
BATCH, SURE = 8, 0.05
NOT_OFFERED = "does not go with the adapter"
"""What the refusal of a head with an adapter says; every other refusal is a failure."""
METHODS: dict[str, dict[str, Any]] = {
    "LoRA": {"name": "lora"},
    "QLoRA": {"name": "qlora"},
    "PEFT: bottleneck": {"name": "bottleneck"},
    "DoRA": {"name": "lora", "dora": True},
    "full": {"name": "full"},
}
OTHERS: dict[str, dict[str, Any]] = {"PEFT: IA3": {"name": "ia3"}, "PEFT: VeRA": {"name": "vera"}}
"""More of PEFT's methods, run where `--more` asks for them."""


@dataclass(frozen=True)
class Task:
    """Rows that a quality is measured on, and how they are put to which model."""

    row: int
    """Which of the notes' rows it is part of."""
    data: str
    what: str
    head: bool = False
    """Whether an encoder's head says the answer, instead of a model that writes it."""


TASKS = {
    "domain": Task(0, "code", "a function of Python's library from what it does"),
    "classification": Task(1, "tones", "the tone of a phrase"),
    "NER": Task(1, "names", "names in posts, written as JSON"),
    "NER by a head": Task(1, "entities", "names in posts, by an encoder's head", head=True),
    "translation": Task(1, "translations", "a compiler's messages in German"),
    "question answering": Task(2, "summaries", "what something is, from a text about it"),
    "chat": Task(3, "chat", "small talk and trivia"),
    "music": Task(4, "tunes", "eight bars of a dance in ABC notation"),
}
COSTS = "classification"
"""The task whose cells tell what each way of training costs."""
NOTES = {
    "Adapting pre-trained LLMs to specific tasks or domains": "yes yes yes yes yes yes",
    "NLP tasks such as text classification, NER and machine translation": "yes yes yes yes yes yes",
    "Question answering": "yes yes yes yes yes yes",
    "Human-like responses in chatbots": "yes yes yes yes yes yes",
    "Music, art or other forms of creativity": "yes yes yes yes yes yes",
    "Reducing computational and financial costs": "yes yes no yes yes no",
    "Reducing memory usage": "no yes no yes yes yes",
    "Using fewer parameters": "no yes yes no no yes",
    "Memory-efficient data parallelism over all devices": "no no no yes yes yes",
}
"""What the Phi cookbook's table says of the six columns."""
COLUMNS = ("LoRA", "QLoRA", "PEFT: bottleneck", "DeepSpeed", "ZeRO", "DoRA")
CHEAPER = {5: "cpu_s", 6: "memory", 7: "trained"}
"""The number of a cell that answers each of the notes' rows about costs."""
CLEARLY = 0.95
"""Below this share of what full training takes, a way of training is cheaper."""


class Peak:
    """A listener that measures the training room: its CPU seconds, and the most memory while it works."""

    def __call__(self, event: Event) -> None:
        """Begin and end with the room."""
        if event.room != "jobs" or event.message != "train":
            return
        if event.kind == "start":
            self.started = time.process_time()
            # Linux sets the peak back to what is in use now.
            Path("/proc/self/clear_refs").write_text("5")
        elif event.kind == "done":
            self.cpu_s = time.process_time() - self.started
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.memory = int(status["VmHWM"].split()[0]) * 1024


def recipe_of(task: Task, adapter: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe of a cell, and write its rows."""
    file = write(task.data, WORK.parent / "advise" / "data")
    rows = file.read_text(encoding="utf-8").splitlines()[: options.rows + 2 * options.held_out]
    own = WORK / f"{task.data}.jsonl"
    own.write_text("\n".join(rows) + "\n", encoding="utf-8")
    share = options.held_out / len(rows)
    train = {"adapter": adapter, "epochs": options.epochs, "batch_size": BATCH, "keep_best": False}
    train |= {"validate_every": 10**6, "threads": options.threads, "compile": False}
    measured: dict[str, Any] = {"baselines": ["zero-shot"], "max_new_tokens": options.answer_tokens}
    if task.head:
        train |= {"method": "extract", "epochs": 8 * options.epochs, "compile": "auto"}
        measured = {"baselines": ["linear-head"]}
    return {
        "base_model": "minilm" if task.head else "smollm2-135m-instruct",
        "data": {"path": str(own), "split": {"test": share, "validation": share}},
        "train": train,
        "evaluate": measured,
        "export": [],
    }


def cell(name: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Do one run and return what it measured, or why there is no such run."""
    from luthier.core.runfolder import RunFolder
    from luthier.jobs.pipeline import run_recipe
    from luthier.recipe_io.read import recipe_from

    out = WORK / f"{name}-{method.replace(': ', '-')}".lower().replace(" ", "-")
    shutil.rmtree(out, ignore_errors=True)
    started, peak = time.perf_counter(), Peak()
    try:
        recipe = recipe_from(recipe_of(TASKS[name], (METHODS | OTHERS)[method], options))
        done = run_recipe(recipe, RunFolder(out), listeners=(peak,))
    except RecipeError as error:
        if NOT_OFFERED not in str(error):
            raise
        return {"refused": str(error).splitlines()[0].removeprefix("error: ")}
    assert done.report is not None, "the recipe measures"
    kept = {
        "seconds": time.perf_counter() - started,
        "cpu_s": peak.cpu_s,
        "memory": peak.memory,
        "tokens_per_s": done.trained.tokens_per_second,
        "trained": done.trained.trainable_parameters,
        "of": done.trained.total_parameters,
        "bytes": sum(path.stat().st_size for path in done.trained.weights.glob("*.safetensors")),
        "loss": [done.trained.base_validation_loss, done.trained.validation_loss],
        "steps": done.trained.steps,
        "metric": done.report.primary_metric,
        "systems": [one.model_dump(mode="json") for one in done.report.systems],
        "comparisons": [one.model_dump(mode="json") for one in done.report.comparisons],
    }
    shutil.rmtree(out)
    return kept


def main() -> int:
    """Measure the cells that are missing, and write the page anew after each; return 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(TASKS))
    parser.add_argument("--methods", action="append", choices=[*METHODS, *OTHERS])
    parser.add_argument("--more", action="store_true", help=f"also {', '.join(OTHERS)}")
    parser.add_argument("--rows", type=int, default=64, help="rows to train on")
    parser.add_argument("--held-out", type=int, default=16, help="rows to measure on, and as many to validate on")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--answer-tokens", type=int, default=32, help="the longest answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument("--page", action="store_true", help="write the page only")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if options.cell:
        print(json.dumps(cell(*options.cell, options)))
        return 0
    sizes = [options.rows, options.held_out, options.epochs, options.answer_tokens, options.threads]
    state = json.loads(STATE.read_text()) if STATE.exists() and not options.fresh else {}
    if not options.page and state.get("sizes") != sizes:
        state = {"sizes": sizes, "cells": {}}
    cells = state.setdefault("cells", {})
    methods = options.methods or [*METHODS, *(OTHERS if options.more else ())]
    for name in (options.only or TASKS) if not options.page else ():
        for method in methods:
            key = f"{name} / {method}"
            if key in cells and "failed" not in cells[key]:
                continue
            cells[key] = measured(name, method, sizes)
            STATE.write_text(json.dumps(state))
            told = cells[key].get("failed") or cells[key].get("refused") or f"{cells[key]['seconds']:.0f} s"
            print(f"{key}: {told}", file=sys.stderr, flush=True)
            options.out.write_text(page(state), encoding="utf-8")
    options.out.write_text(page(state), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))
    return 1 if any("failed" in one for one in cells.values()) else 0


def measured(name: str, method: str, sizes: list[float]) -> dict[str, Any]:
    """Do a cell in a process of its own."""
    flags = ("--rows", "--held-out", "--epochs", "--answer-tokens", "--threads")
    command = [sys.executable, __file__, "--cell", name, method]
    command += [str(word) for pair in zip(flags, sizes, strict=True) for word in pair]
    environment = os.environ | {"OMP_NUM_THREADS": str(sizes[-1])}
    with (WORK / "log.txt").open("a") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False, env=environment)
    if done.returncode:
        last = (WORK / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
        return {"failed": "".join(last)[:200] or f"exit {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def page(state: dict[str, Any]) -> str:
    """Return the page."""
    machine, cells = hardware(), state["cells"]
    rows, held_out, epochs, tokens, threads = state["sizes"]
    methods = [*METHODS, *(one for one in OTHERS if any(key.endswith(one) for key in cells))]
    lines = [
        "# The notes' scenarios, by every way of training",
        "",
        f"SmolLM2-135M-Instruct (MiniLM for the head), {rows} training rows, {epochs:g} epochs (heads: 8 times as "
        f"many) in batches of {BATCH}, {held_out} rows held out, answers of at most {tokens} tokens, one seed; "
        "learning rates as Luthier advises. Sources and licences of the rows: `bench/advise_data.py`. Intervals are "
        "95 %; rows so few tell large differences only. `python bench/matrix.py` writes this page.",
        "",
        f"Machine: {machine.cpu}, {threads} of {machine.cores} cores, {platform.system()}.",
        "",
        "## Quality on held-out rows: untuned → tuned",
        "",
        "First the metric, then the perplexity of the right answers (a head has none). **yes**: the tuned model's "
        f"perplexity (a head's metric) is better with p < {SURE}, in a paired test on the same rows, and the metric "
        "not worse.",
        "",
        f"| task | metric | {' | '.join(methods)} |",
        "|" + "---|" * (2 + len(methods)),
    ]
    for name, task in TASKS.items():
        found = [cells.get(f"{name} / {method}") for method in methods]
        metric = next((one["metric"] for one in found if one and "metric" in one), "–")
        lines.append(f"| {name}: {task.what} | {metric} | {' | '.join(map(quality, found))} |")
    lines += [
        "",
        f"## Cost, on {TASKS[COSTS].data}",
        "",
        f"| | {' | '.join(methods)} |",
        "|---" * len(methods) + "|---|",
    ]
    for title, said in (
        ("training, CPU s", lambda one: f"{one['cpu_s']:.0f}"),
        ("tokens/s", lambda one: f"{one['tokens_per_s']:.0f}"),
        ("peak memory while training, GB", lambda one: f"{one['memory'] / 1e9:.2f}"),
        ("trained parameters", lambda one: f"{one['trained']:,} ({one['trained'] / one['of']:.2%})"),
        ("file, MB", lambda one: f"{one['bytes'] / 1e6:.1f}"),
        ("validation loss", lambda one: " → ".join(f"{loss:.3f}" for loss in one["loss"])),
    ):
        costs = [cells.get(f"{COSTS} / {method}") for method in methods]
        lines.append(f"| {title} | {' | '.join(said(one) if is_measured(one) else '–' for one in costs)} |")
    lines += ["", "## The notes' table: what the notes say / what is measured here", ""]
    lines += [
        f"Rows 1 to 5 are the first table: yes where each of the row's tasks is. Rows 6 to 8 are the second: yes below "
        f"{CLEARLY:.0%} of what full training takes. DeepSpeed and ZeRO are to come; with them, row 9.",
        "",
        f"| | scenario | {' | '.join(COLUMNS)} | full |",
        "|---" * (len(COLUMNS) + 2) + "|---|",
    ]
    for number, (scenario, words) in enumerate(NOTES.items()):
        told = [f"{said} / {here(cells, number, column)}" for column, said in zip(COLUMNS, words.split(), strict=True)]
        lines.append(f"| {number + 1} | {scenario} | {' | '.join(told)} | {here(cells, number, 'full')} |")
    failed = [f"- {key}: {one['failed']}" for key, one in cells.items() if "failed" in one]
    refused = [f"- {key}: {one['refused']}" for key, one in cells.items() if "refused" in one]
    lines += ["", "## Failed", "", *failed] if failed else []
    lines += ["", "## Not offered", "", *refused] if refused else []
    return "\n".join(lines) + "\n"


def is_measured(one: dict[str, Any] | None) -> bool:
    """Tell whether a cell has numbers."""
    return one is not None and "metric" in one


def quality(one: dict[str, Any] | None) -> str:
    """Return a cell's metric and perplexity, before and after, and the verdict."""
    if one is None or not is_measured(one):
        return next((word for word in ("failed", "refused") if one and word in one), "–").replace(
            "refused", "not offered"
        )
    parts = [f"{value(one, False, one['metric'])} → {value(one, True, one['metric'], interval=True)}"]
    if any("perplexity" in system["metrics"] for system in one["systems"]):
        parts.append(f"{value(one, False, 'perplexity')} → {value(one, True, 'perplexity')}")
    return "; ".join([*parts, "**yes**" if is_better(one) else "not shown"])


def value(one: dict[str, Any], tuned: bool, metric: str, *, interval: bool = False) -> str:
    """Return what the tuned or the other systems reach, the better way of answering where there are two."""
    found = [
        system["metrics"][metric]
        for system in one["systems"]
        if (system["name"].split(" (")[0] == "tuned") == tuned and metric in system["metrics"]
    ]
    if not found:
        return "–"
    best = (min if metric == "perplexity" else max)(found, key=lambda estimate: estimate["value"])
    shown = f"{best['value']:.3f}" if best["value"] < 100 else f"{best['value']:.0f}"
    return f"{shown} [{best['low']:.3f}–{best['high']:.3f}]" if interval else shown


def is_better(one: dict[str, Any]) -> bool:
    """Tell whether the tuned model is better than the untuned one: surely by what decides, and not surely worse."""
    tests = {test["metric"]: test for test in one["comparisons"]}
    metric, perplexity = tests.get(one["metric"]), tests.get("perplexity")
    if perplexity is None:
        return metric is not None and metric["difference"] > 0 and metric["p"] < SURE
    is_worse = metric is not None and metric["difference"] < 0 and metric["p"] < SURE
    return perplexity["difference"] < 0 and perplexity["p"] < SURE and not is_worse


def here(cells: dict[str, Any], row: int, method: str) -> str:
    """Return what is measured for one of the notes' cells."""
    if method in ("DeepSpeed", "ZeRO") or row == len(NOTES) - 1:
        return "to come"
    if row in CHEAPER:
        one, full = (cells.get(f"{COSTS} / {name}") for name in (method, "full"))
        if not (is_measured(one) and is_measured(full)):
            return "–"
        share = one[CHEAPER[row]] / full[CHEAPER[row]]
        return "1" if method == "full" else f"{'yes' if share < CLEARLY else 'no'} ({share:.2g} of full)"
    tasks = [cells.get(f"{name} / {method}") for name, task in TASKS.items() if task.row == row]
    counted = [one for one in tasks if is_measured(one)]
    good = sum(map(is_better, counted))
    if not counted:
        return "–"
    return "yes" if good == len(counted) == len(tasks) else f"{good} of {len(counted)} measured"


if __name__ == "__main__":
    sys.exit(main())
