"""Prove `luthier estimate`: `estimate.py [--only NAME]… [--fresh] [--page]`; resumable, one plan at a time.

Twelve plans are estimated, then really run, each in a process of its own whose highest memory and wall time the system
counts. What is done is kept in `runs/bench-estimate/state.json`; the page is written anew after each plan.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from luthier.core.settings import cache_dir
from luthier.model.device import hardware
from luthier.model.tiny import save_tiny

HERE = Path(__file__).parent
WORK = HERE.parent / "runs" / "bench-estimate"
STATE = WORK / "state.json"
PAGE = HERE.parent / "docs" / "proof" / "estimate.md"
TONES = HERE.parent / "examples" / "tones" / "tones.jsonl"
LUTHIER = [sys.executable, "-c", "from luthier.cli.main import main; main()"]
MEMORY_SHARE, TIME_SHARE, WANTED = 0.10, 0.25, 10
WORDS = [
    "river",
    "stone",
    "lamp",
    "garden",
    "music",
    "winter",
    "paper",
    "bridge",
    "yellow",
    "silent",
    "morning",
    "road",
    "glass",
    "bread",
    "window",
    "sea",
]
SMOL = {"base_model": "smollm2-135m-instruct"}
FEW = {"evaluate": {"max_rows": 24, "resamples": 500}}
ASKS = "Answer with one word: is the tone of this phrase negative, neutral or positive?"


def tones(**more: object) -> dict[str, object]:
    """Return the data part of a recipe on real phrases."""
    return {"path": str(WORK / "tones.jsonl"), "instruction": ASKS, "split": {"validation": 0.1, "test": 0.1}, **more}


def made(name: str) -> dict[str, object]:
    """Return the data part of a recipe on made rows."""
    return {"path": str(WORK / f"{name}.jsonl"), "split": {"validation": 0.1, "test": 0.1}}


def tiny(family: str) -> dict[str, str]:
    """Return the base model part of a recipe on a tiny model."""
    return {"base_model": str(WORK / f"tiny-{family}")}


PLANS: dict[str, dict[str, object]] = {
    "tiny, lora 8, 30 steps of 16": {
        **tiny("llama"), **FEW, "data": tones(), "train": {"steps": 30, "batch_size": 16, "adapter": {"r": 8}},
    },
    "tiny, full, 30 steps of 32": {
        **tiny("qwen2"), **FEW, "data": tones(), "train": {"steps": 30, "batch_size": 32, "adapter": {"name": "full"}},
    },
    "135M, lora 8, 20 steps of 8": {
        **SMOL, **FEW, "data": tones(), "train": {"steps": 20, "batch_size": 8, "adapter": {"r": 8}},
    },
    "135M, lora 64 on q and v, fp32, 12 steps of 16": {
        **SMOL, **FEW, "data": tones(),
        "train": {
            "steps": 12, "batch_size": 16, "precision": "fp32", "validate_every": 6, "checkpoint_every": 6,
            "adapter": {"r": 64, "target_modules": ["q_proj", "v_proj"]},
        },
    },
    "135M, lora 16, dropout, 10 steps of 8": {
        **SMOL, **FEW, "data": tones(),
        "train": {"steps": 10, "batch_size": 8, "validate_every": 5, "adapter": {"r": 16, "dropout": 0.05}},
    },
    "135M, lora 16, long rows, 12 steps of 4": {
        **SMOL, "evaluate": {"max_rows": 12, "resamples": 500, "baselines": ["zero-shot"], "max_new_tokens": 32},
        "data": made("long"), "train": {"steps": 12, "batch_size": 4, "micro_batch_tokens": 1024, "validate_every": 6},
    },
    "135M, lora 32, long rows, 2048 tokens at once": {
        **SMOL, "evaluate": None, "data": made("long"),
        "train": {"steps": 8, "batch_size": 8, "micro_batch_tokens": 2048, "validate_every": 4, "adapter": {"r": 32}},
    },
    "135M, full, fp32, 8 steps of 8": {
        **SMOL, **FEW, "data": tones(),
        "train": {
            "steps": 8, "batch_size": 8, "precision": "fp32", "adapter": {"name": "full"}, "checkpoint_every": 4,
            "keep_checkpoints": 1, "validate_every": 4, "learning_rate": 1e-5,
        },
    },
    "135M, full, 10 steps of 16, nothing else": {
        **SMOL, "evaluate": None, "export": [], "data": tones(),
        "train": {
            "steps": 10, "batch_size": 16, "adapter": {"name": "full"}, "checkpoint_every": 10, "validate_every": 10,
            "learning_rate": 1e-5,
        },
    },
    "135M, dpo, lora 16, 10 steps of 4": {
        **SMOL, **FEW, "data": made("pairs"),
        "train": {"method": {"name": "dpo"}, "steps": 10, "batch_size": 4, "validate_every": 5},
    },
    "135M, dpo, lora 4 on q and v, 512 tokens at once": {
        **SMOL, **FEW, "data": made("pairs"), "export": ["adapter"],
        "train": {
            "method": {"name": "dpo"}, "steps": 12, "batch_size": 8, "micro_batch_tokens": 512, "validate_every": 6,
            "adapter": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
        },
    },
    "135M, lora 16, the plain step, 8 steps of 8": {
        **SMOL, **FEW, "data": tones(),
        "train": {"steps": 8, "batch_size": 8, "fast_step": False, "validate_every": 4},
    },
}  # fmt: skip


def main() -> None:
    """Estimate and run what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="A piece of a plan's name.")
    parser.add_argument("--fresh", action="store_true", help="Forget what is done.")
    parser.add_argument("--page", action="store_true", help="Only write the page.")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    prepare()
    done = state()
    for name, recipe in PLANS.items():
        chosen = not options.only or any(piece in name for piece in options.only)
        if chosen and name not in done and not options.page:
            done[name] = tried(recipe)
            STATE.write_text(json.dumps(done, indent=1))
            print(f"{name}: {line(name, done[name])}", flush=True)
            write_page(done)
    write_page(done)


def state() -> dict[str, dict[str, object]]:
    """Return what is done."""
    return json.loads(STATE.read_text()) if STATE.exists() else {}


def prepare() -> None:
    """Write the rows, the tiny models, and a cache of its own, in which the converted model is a link."""
    WORK.mkdir(parents=True, exist_ok=True)
    rows = TONES.read_text(encoding="utf-8").splitlines()[:600]
    (WORK / "tones.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    draw = random.Random(7)
    long = [{"prompt": text(draw, 40, 160), "completion": text(draw, 60, 240)} for _ in range(160)]
    pairs = [
        {"prompt": text(draw, 10, 60), "chosen": text(draw, 10, 50), "rejected": text(draw, 10, 50)} for _ in range(160)
    ]
    for name, made_rows in (("long", long), ("pairs", pairs)):
        (WORK / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made_rows))
    for family in ("llama", "qwen2"):
        if not (WORK / f"tiny-{family}").exists():
            save_tiny(WORK / f"tiny-{family}", family)
    cache = WORK / "cache"
    cache.mkdir(exist_ok=True)
    for part in ("models", "digests", "products.json", "templates"):
        if (cache_dir() / part).exists() and not (cache / part).exists():
            (cache / part).symlink_to(cache_dir() / part)


def text(draw: random.Random, least: int, most: int) -> str:
    """Return so many made words."""
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))


def tried(recipe: dict[str, object]) -> dict[str, object]:
    """Estimate a plan, run it, and return both."""
    file, out = WORK / "recipe.yaml", WORK / "run"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    shutil.rmtree(out, ignore_errors=True)
    estimated, said = watched(["estimate", str(file), "--json"])
    ran, _ = watched(["run", str(file), "--out", str(out), "--json"])
    rooms = {room: artifact(out / room) for room in ("data", "train", "evaluate", "export")}
    kept = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    shutil.rmtree(out, ignore_errors=True)
    return {"estimate": json.loads(said), "estimating": estimated, "real": ran | {"rooms": rooms, "disk_bytes": kept}}


def watched(words: list[str]) -> tuple[dict[str, float], str]:
    """Run a command with a cache without rows, and return its highest memory and wall time, and what it wrote."""
    shutil.rmtree(WORK / "cache" / "tokens", ignore_errors=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "LUTHIER_CACHE": str(WORK / "cache")}
    out, errors = WORK / "out.txt", WORK / "errors.txt"
    started = time.perf_counter()
    with out.open("w") as written, errors.open("w") as told:
        child = subprocess.Popen([*LUTHIER, *words], stdout=written, stderr=told, env=environment)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if child.returncode:
        sys.exit(f"`luthier {' '.join(words)}` failed:\n{errors.read_text()[-2000:]}")
    scale = 1 if platform.system() == "Darwin" else 1024
    return {"seconds": seconds, "peak_bytes": used.ru_maxrss * scale}, out.read_text()


def artifact(folder: Path) -> float:
    """Return how long a room worked."""
    file = folder / "artifact.json"
    return json.loads(file.read_text())["seconds"] if file.exists() else 0.0


def errors_of(done: dict[str, object]) -> tuple[float, float]:
    """Return by which share memory and time were estimated too high."""
    told, real = done["estimate"], done["real"]
    memory = told["peak_memory_bytes"] / real["peak_bytes"] - 1
    return memory, told["total_seconds"] / real["seconds"] - 1


def line(name: str, done: dict[str, object]) -> str:
    """Return a plan's row of the table."""
    told, real = done["estimate"], done["real"]
    memory, seconds = errors_of(done)
    holds = "yes" if abs(memory) <= MEMORY_SHARE and abs(seconds) <= TIME_SHARE else "no"
    peaks = f"{told['peak_memory_bytes'] / 1e6:,.0f} | {real['peak_bytes'] / 1e6:,.0f} | {memory:+.1%}"
    times = f"{told['total_seconds']:.0f} | {real['seconds']:.0f} | {seconds:+.0%}"
    disk = f"{told['disk_bytes'] / 1e6:,.0f} | {real['disk_bytes'] / 1e6:,.0f}"
    return f"| {name} | {peaks} | {times} | {disk} | {done['estimating']['seconds']:.0f} | {holds} |"


def parts(name: str, done: dict[str, object]) -> str:
    """Return where a plan's time goes, estimated and real."""
    told, rooms, real = done["estimate"], done["real"]["rooms"], done["real"]["seconds"]
    pairs = [
        (told["prepare_seconds"], real - rooms["train"] - rooms["evaluate"] - rooms["export"]),
        (told["train_seconds"] + told["validate_seconds"], rooms["train"]),
        (told["evaluate_seconds"], rooms["evaluate"]),
        (told["export_seconds"], rooms["export"]),
    ]
    return f"| {name} | " + " | ".join(f"{ours:.1f} / {theirs:.1f}" for ours, theirs in pairs) + " |"


def write_page(done: dict[str, dict[str, object]]) -> None:
    """Write the proof."""
    found = [errors_of(done[name]) for name in PLANS if name in done]
    memory = sum(abs(share) <= MEMORY_SHARE for share, _ in found)
    seconds = sum(abs(share) <= TIME_SHARE for _, share in found)
    machine = hardware()
    head = "| plan | peak MB: estimated | real | error | seconds: estimated | real | error | disk MB: estimated | real "
    lines = [
        "# Estimates against real runs",
        "",
        f"{machine.cpu}, {machine.cores} cores, {platform.system()}; {len(found)} of {len(PLANS)} plans done. "
        f"Peak memory within {MEMORY_SHARE:.0%}: {memory} of {len(found)}. Time within {TIME_SHARE:.0%}: {seconds} of "
        f"{len(found)}. Wanted: {WANTED} of {len(PLANS)} each.",
        "",
        "Written by `bench/estimate.py`: each plan is estimated, then run, each in a process of its own; the system "
        "counts that process's highest memory and wall time. Prepared rows are forgotten before both.",
        "",
        f"{head}| s to estimate | holds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(line(name, done[name]) for name in PLANS if name in done),
        "",
        "Seconds by part, estimated / real:",
        "",
        "| plan | start and data | training | evaluation | export |",
        "| --- | --- | --- | --- | --- |",
        *(parts(name, done[name]) for name in PLANS if name in done),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
