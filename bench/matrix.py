"""Every scenario of the notes by every way of training: `matrix.py [--only SCENARIO]… [--page]`; resumable.

Each cell is a whole run (data, training, evaluation) on real rows in a process of its own, all with the same rows,
epochs and seed; the untuned model answers the same held-out rows. Writes docs/proof/scenarios.md.
"""

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from advise_data import write
from luthier.core.settings import cache_dir
from luthier.model.device import hardware

PAGE = Path(__file__).parents[1] / "docs" / "proof" / "scenarios.md"
WORK = cache_dir() / "bench" / "matrix"
STATE = WORK / "state.json"
EPOCHS, ROWS, HELD_OUT = 2, 160, 48
SCENARIOS = {
    "task or domain": ("code", "a function of Python's library from what it does"),
    "NLP tasks: classification": ("tones", "the tone of a phrase"),
    "NLP tasks: translation": ("translations", "a compiler's messages in German"),
    "question answering": ("summaries", "what something is, from a text about it"),
    "chat": ("chat", "small talk and trivia"),
    "music": ("tunes", "eight bars of a dance in ABC notation"),
}
"""Scenarios whose quality can be measured on rows, each with a data set of `advise_data.py`."""
METHODS: dict[str, dict[str, Any]] = {
    "LoRA": {"name": "lora"},
    "QLoRA": {"name": "qlora"},
    "PEFT: bottleneck": {"name": "bottleneck"},
    "PEFT: IA3": {"name": "ia3"},
    "DoRA": {"name": "lora", "dora": True},
    "full": {"name": "full"},
}
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
"""What the Phi cookbook's table says of LoRA, QLoRA, PEFT, DeepSpeed, ZeRO and DoRA."""


def cell(scenario: str, method: str) -> dict[str, Any]:
    """Do one run and return what it measured."""
    import luthier
    from luthier.recipe import Recipe

    data, _ = SCENARIOS[scenario]
    file = write(data, WORK.parent / "advise" / "data")
    rows = file.read_text(encoding="utf-8").splitlines()[: ROWS + 2 * HELD_OUT]
    own = WORK / f"{data}.jsonl"
    own.write_text("\n".join(rows) + "\n", encoding="utf-8")
    share = HELD_OUT / len(rows)
    out = WORK / f"{data}-{method.replace(': ', '-').lower()}"
    shutil.rmtree(out, ignore_errors=True)
    recipe = Recipe.model_validate(
        {
            "base_model": "smollm2-135m-instruct",
            "data": {"path": str(own), "split": {"test": share, "validation": share}},
            "train": {"adapter": METHODS[method], "epochs": EPOCHS, "batch_size": 8, "keep_best": True},
            "evaluate": {"baselines": ["zero-shot"] if method == next(iter(METHODS)) else []},
            "export": [],
        }
    )
    started = time.perf_counter()
    done = luthier.run(recipe, out=out)
    metrics = [json.loads(line) for line in (out / "train" / "metrics.jsonl").read_text().splitlines()]
    weights = sum(path.stat().st_size for path in done.trained.weights.glob("*.safetensors"))
    return {
        "seconds": time.perf_counter() - started,
        "train_s": sum(one.get("step_seconds", 0.0) for one in metrics),
        "tokens_per_s": done.trained.tokens_per_second,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trained": done.trained.trainable_parameters,
        "of": done.trained.total_parameters,
        "bytes": weights,
        "loss": [done.trained.base_validation_loss, done.trained.validation_loss],
        "metric": done.report.primary_metric,
        "systems": {
            one.name: one.metrics[done.report.primary_metric].model_dump()
            for one in done.report.systems
            if done.report.primary_metric in one.metrics
        },
    }


def main() -> None:
    """Measure the cells that are missing, and write the page anew after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS))
    parser.add_argument("--page", action="store_true", help="write the page only")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if options.cell:
        print(json.dumps(cell(*options.cell)))
        return
    state = json.loads(STATE.read_text()) if STATE.exists() else {}
    for scenario in (options.only or SCENARIOS) if not options.page else ():
        for method in METHODS:
            key = f"{scenario} / {method}"
            if key in state:
                continue
            command = [sys.executable, __file__, "--cell", scenario, method]
            with (WORK / "log.txt").open("a") as log:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
            if done.returncode:
                print(f"{key}: failed, see {WORK / 'log.txt'}", file=sys.stderr, flush=True)
                continue
            state[key] = json.loads(done.stdout.strip().splitlines()[-1])
            STATE.write_text(json.dumps(state))
            print(f"{key}: {state[key]['seconds']:.0f} s", file=sys.stderr, flush=True)
            PAGE.write_text(page(state), encoding="utf-8")
    PAGE.write_text(page(state), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def page(state: dict[str, Any]) -> str:
    """Return the page."""
    machine = hardware()
    lines = [
        "# The notes' scenarios, by every way of training",
        "",
        f"SmolLM2-135M-Instruct, {ROWS} training rows, {EPOCHS} epochs in batches of 8, {HELD_OUT} rows held out, "
        "one seed; learning rates as Luthier advises. `python bench/matrix.py` writes this page. Intervals are 95 %; "
        "rows so few tell large differences only.",
        "",
        f"Machine: {machine.cpu}, {machine.cores} cores, {platform.system()}.",
        "",
        "## Quality on held-out rows",
        "",
        f"| scenario | metric | untuned | {' | '.join(METHODS)} |",
        "|" + "---|" * (3 + len(METHODS)),
    ]
    for scenario, (_, what) in SCENARIOS.items():
        found = {method: state.get(f"{scenario} / {method}") for method in METHODS}
        first = next((one for one in found.values() if one), None)
        if first is None:
            continue
        untuned = next((value(one["systems"], "zero-shot") for one in found.values() if one and one["systems"]), "–")
        cells = [value(one["systems"], "tuned") if one else "–" for one in found.values()]
        lines.append(f"| {scenario}: {what} | {first['metric']} | {untuned} | {' | '.join(cells)} |")
    lines += ["", "## Cost, on the tones", "", "| | " + " | ".join(METHODS) + " |", "|" + "---|" * (1 + len(METHODS))]
    costs = [state.get(f"NLP tasks: classification / {method}") for method in METHODS]
    for title, said in (
        ("training, s", lambda one: f"{one['train_s']:.0f}"),
        ("tokens/s", lambda one: f"{one['tokens_per_s']:.0f}"),
        ("peak memory of the whole run, GB", lambda one: f"{one['memory'] / 1e9:.2f}"),
        ("trained parameters", lambda one: f"{one['trained']:,} ({one['trained'] / one['of']:.2%})"),
        ("file, MB", lambda one: f"{one['bytes'] / 1e6:.1f}"),
        ("validation loss, before → after", lambda one: " → ".join(f"{loss:.3f}" for loss in one["loss"])),
    ):
        lines.append(f"| {title} | " + " | ".join(said(one) if one else "–" for one in costs) + " |")
    lines += [
        "",
        "## What the notes say",
        "",
        "The Phi cookbook's table beside what is measured above: rows 1 to 5 are the first table, 6 to 8 the second.",
        "",
        "| scenario | LoRA | QLoRA | PEFT | DeepSpeed | ZeRO | DoRA | here |",
        "|---|---|---|---|---|---|---|---|",
    ]
    here = ["measured"] * 8 + ["DeepSpeed and ZeRO are to come"]
    for (scenario, words), told in zip(NOTES.items(), here, strict=True):
        lines.append(f"| {scenario} | {' | '.join(words.split())} | {told} |")
    return "\n".join(lines) + "\n"


def value(systems: dict[str, Any], name: str) -> str:
    """Return a system's result, by the better way of answering where there are two."""
    found = [one for system, one in systems.items() if system.split(" (")[0] == name]
    best = max(found, key=lambda one: one["value"], default=None)
    return f"{best['value']:.3f} [{best['low']:.3f}–{best['high']:.3f}]" if best else "–"


if __name__ == "__main__":
    main()
