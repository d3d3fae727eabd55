"""Race Luthier against TRL: `race.py [--rows N] [--steps N] [--batch N] [--out FILE]`; writes a table and its numbers.

Each contender runs alone, in a process of its own, on the same model, rows, rows per step and number of steps.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import debian_rows
from luthier.core.settings import cache_dir
from luthier.model.base import resolve_base
from luthier.model.device import hardware
from luthier.model.fast.gemm import matmul

HERE = Path(__file__).parent
CONTENDERS = ("luthier-fp32", "luthier-bf16", "trl-default", "trl-best", "trl-best-bf16")
TITLES = {
    "luthier-fp32": "Luthier, fp32",
    "luthier-bf16": "Luthier, bf16",
    "trl-default": "TRL, its defaults (bf16, checkpointing, padded)",
    "trl-best": "TRL, fp32, no checkpointing, packed",
    "trl-best-bf16": "TRL, bf16, no checkpointing, packed",
}


def main() -> None:
    """Run the race."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--sets", nargs="+", default=list(debian_rows.SETS), choices=debian_rows.SETS)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "proof" / "race.md")
    options = parser.parse_args()

    data = cache_dir() / "bench"
    debian_rows.write(data, options.rows)
    model = resolve_base("smollm2-135m-instruct", lambda event: None).folder
    peak = peak_gflop_per_s()
    results = []
    for name in options.sets:
        for contender in CONTENDERS:
            results.append(run(contender, model, data / f"{name}.jsonl", options))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)

    table = report(results, peak, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table)
    print(table)


def run(contender: str, model: Path, rows: Path, options: argparse.Namespace) -> dict:
    """Run one contender and return its measurements."""
    command = [sys.executable, HERE / "contender.py", contender, model, rows, options.steps, options.batch]
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_gflop_per_s() -> float:
    """Return the best fp32 matrix product this machine does with all its threads, over libraries and shapes."""
    best = 0.0
    for rows, inner, columns in ((1024, 576, 1536), (4096, 4096, 4096)):
        a, b = torch.randn(rows, inner), torch.randn(columns, inner).t()
        for product in (torch.mm, matmul):
            best = max(best, 2 * rows * inner * columns / _best_seconds(product, a, b) / 1e9)
    return best


def _best_seconds(product: Callable, a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the shortest of many repeats within a second."""
    seconds, end = [], time.perf_counter() + 1
    while time.perf_counter() < end or len(seconds) < 3:
        started = time.perf_counter()
        product(a, b)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def report(results: list[dict], peak: float, options: argparse.Namespace) -> str:
    """Return the tables as Markdown."""
    machine = hardware()
    lines = [
        "# The race against TRL",
        "",
        f"SmolLM2-135M, LoRA r 16 on all linear layers, {options.batch} rows a step, {options.steps} steps of which "
        "the first is not timed; Debian's package descriptions. Real tokens count once per row, pads never. "
        "Start: what passes before the first step, at least 0, with kernels that an earlier run compiled and cached.",
        "",
        f"Machine: {machine.cpu}, {machine.cores} cores, {platform.system()}; torch {torch.__version__}; fp32 "
        f"matrix-product peak {peak:.0f} GFLOP/s. `make bench` writes this page.",
    ]
    for name in dict.fromkeys(result["set"] for result in results):
        lines += ["", f"## {name}", "", *_table([r for r in results if r["set"] == name], peak)]
    return "\n".join(lines) + "\n"


def _table(results: list[dict], peak: float) -> list[str]:
    by_name = {result["name"]: result for result in results}
    slow, best = by_name["trl-default"], by_name["trl-best"]
    lines = [
        "| | tokens/s | tokens/CPU-s | × TRL defaults | × TRL fp32 packed | fp32 peak used | memory | start | loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        share = f"{r['gflop_per_s'] / peak:.0%}" if r["name"] == "luthier-fp32" else "–"
        cells = [
            TITLES[r["name"]],
            f"{r['tokens_per_s']:,.0f}",
            f"{r['tokens_per_cpu_s']:,.0f}",
            f"{r['tokens_per_s'] / slow['tokens_per_s']:.1f}",
            f"{r['tokens_per_s'] / best['tokens_per_s']:.1f}",
            share,
            f"{r['peak_bytes'] / 1e9:.1f} GB",
            f"{max(r['start_seconds'], 0):.0f} s",
            f"{r['held_out_loss']:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
