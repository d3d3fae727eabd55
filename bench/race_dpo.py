"""Race the DPO step against TRL's: `race_dpo.py [--rows N] [--steps N] [--only SET]`; writes docs/proof/race-dpo.md.

Each contender runs alone, in a process of its own, on the same pairs in the same order, from the same LoRA weights,
with the same rate: the losses must be the same, step by step. TRL runs with its reference computed before the first
step (`precompute_ref_log_probs`), without checkpointing, and with the best of several sizes of its micro-batches. What
is done is kept in the cache.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import debian_rows
from luthier.core.artifacts import Base, Prepared
from luthier.core.events import Event
from luthier.core.settings import cache_dir
from luthier.examples.example import Example, Message
from luthier.examples.store import Encoded, write_split
from luthier.jobs.facts import compiler
from luthier.model.adapters.lora import LoraSpec
from luthier.model.base import resolve_base
from luthier.model.device import hardware
from luthier.model.load import load_model, load_tokenizer
from luthier.train import room
from luthier.train.batches import rows_of_step
from luthier.train.methods.dpo.spec import DpoSpec
from luthier.train.schedules.spec import Constant
from luthier.train.spec import TrainSpec

PAGE = Path(__file__).parents[1] / "docs" / "proof" / "race-dpo.md"
RATE, BETA, SEED, MICRO_BATCH_TOKENS = 2e-4, 0.1, 0, 1536
SETS = ("sections", "synopsis")
CONTENDERS = tuple(f"{who}-{how}" for how in ("fp32", "bf16") for who in ("luthier", "trl-2", "trl-4", "trl-8"))
LEAST_PAIRS, SAME = 64, {"fp32": 1e-3, "bf16": 2e-2}


def pairs(path: Path) -> list[dict[str, Any]]:
    """Return rows with a better and a worse answer: the right one, and another row's."""
    rows, draw, made = [json.loads(line) for line in path.open(encoding="utf-8")], random.Random(SEED), []
    answers = [row["completion"] for row in rows]
    for row in rows:
        worse = draw.choice(answers)
        while worse == row["completion"]:
            worse = draw.choice(answers)
        made.append({"prompt": row["prompt"], "chosen": row["completion"], "rejected": worse})
    return made


def encoded(tokenizer: Any, row: dict[str, Any], answer: str) -> Encoded:
    """Tokenise a prompt with one of its answers; loss on the answer."""
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(row["prompt"] + row[answer], return_dict=False)
    return Encoded(whole, [False] * len(prompt) + [True] * (len(whole) - len(prompt)), len(prompt))


def luthier(model: Path, rows: list[dict[str, Any]], *, steps: int, batch: int, precision: str) -> dict[str, Any]:
    """Train in the training room; return the losses, and the seconds of each step and of the reference."""
    tokenizer, folder = load_tokenizer(model), Path(tempfile.mkdtemp())
    shown = Example(messages=(Message(role="user", content="x"), Message(role="assistant", content="y")))
    whole = []
    for row in rows:
        better, worse = (encoded(tokenizer, row, answer) for answer in ("chosen", "rejected"))
        whole.append((Encoded(better.ids, better.targets, better.prompt_tokens, rejected=worse), shown))
    (folder / "examples").mkdir()
    write_split(folder / "examples" / "train.arrow", whole)
    write_split(folder / "examples" / "validation.arrow", [])
    given = Prepared(
        folder=folder,
        base=Base(name=model.name, folder=model, weights_sha256=""),
        format="preference",
        rows={"train": len(rows)},
        target_tokens=sum(sum(row.targets) for row, _ in whole),
        total_tokens=sum(len(row.ids) for row, _ in whole),
        longest=max(len(row.ids) for row, _ in whole),
        answer_kind="pair",
        data_sha256="",
        context_tokens=8192,
    )
    spec = TrainSpec(
        method=DpoSpec(beta=BETA),
        adapter=LoraSpec(r=16),
        steps=steps,
        batch_size=batch,
        micro_batch_tokens=MICRO_BATCH_TOKENS,
        learning_rate=RATE,
        schedule=Constant(),
        warmup=0.0,
        precision=precision,
        gradient_checkpointing=False,
        fast_step=True,
        compile=compiler() is not None,
        checkpoint_every=steps,
        threads=torch.get_num_threads(),
    )
    ticks: list[float] = []
    losses: list[float] = []
    reference = [0.0, 0.0]

    def emit(event: Event) -> None:
        if event.message.startswith("pairs priced"):
            reference[1] = time.perf_counter()
        if event.kind == "note":
            reference[0] = time.perf_counter()
        if event.kind == "metrics":
            ticks.append(time.perf_counter())
            losses.append(event.data["loss"])

    reference[0] = time.perf_counter()
    room.run(spec, given, folder, emit, seed=SEED)
    return {"losses": losses, "ticks": ticks, "reference_s": reference[1] - reference[0]}


def trl(model: Path, rows: list[dict[str, Any]], *, steps: int, batch: int, micro: int, precision: str) -> dict:
    """Train with TRL on the same pairs in the same order."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    ticks: list[float] = []
    losses: list[float] = []

    class Ticker(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ticks.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    order = [i for step in range(steps) for i in rows_of_step(step, rows=len(rows), batch_size=batch, seed=SEED)]
    torch.manual_seed(SEED)
    config = DPOConfig(
        output_dir=tempfile.mkdtemp(), max_steps=steps, report_to="none", save_strategy="no", use_cpu=True, seed=SEED,
        learning_rate=RATE, lr_scheduler_type="constant", beta=BETA, bf16=precision == "bf16", max_grad_norm=1.0,
        per_device_train_batch_size=micro, gradient_accumulation_steps=batch // micro, gradient_checkpointing=False,
        precompute_ref_log_probs=True, max_length=8192, logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    started = time.perf_counter()
    trainer = InOrder(
        model=LoraSpec(r=16).build().attach(load_model(model), seed=SEED),
        args=config,
        train_dataset=Dataset.from_list([rows[i] for i in order]),
        processing_class=load_tokenizer(model),
        callbacks=[Ticker()],
    )
    reference = time.perf_counter() - started
    trainer.train()
    return {"losses": losses, "ticks": ticks, "reference_s": reference * len(rows) / len(order)}


def child(name: str, model: Path, path: Path, steps: int, batch: int) -> None:
    """Be one contender, and print what was measured."""
    rows, precision = pairs(path), name.rsplit("-", 1)[1]
    if name.startswith("luthier"):
        found = luthier(model, rows, steps=steps, batch=batch, precision=precision)
    else:
        found = trl(model, rows, steps=steps, batch=batch, micro=int(name.split("-")[1]), precision=precision)
    ticks = found.pop("ticks")
    seconds = sorted(after - before for before, after in zip(ticks, ticks[1:], strict=False))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    measured = {"name": name, "set": path.stem, "step_s": seconds[len(seconds) // 2], "memory": memory}
    print(json.dumps(measured | found))


def main() -> None:
    """Run the race, or be one contender of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--precision", action="append", choices=list(SAME))
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, model, path = options.child
        child(name, Path(model), Path(path), options.steps, options.batch)
        return
    folder = cache_dir() / "bench"
    debian_rows.write(folder, max(options.rows, LEAST_PAIRS))
    model = resolve_base("smollm2-135m-instruct", lambda event: None).folder
    kept = folder / f"race-dpo-{options.steps}-{options.batch}-{torch.get_num_threads()}.json"
    results: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() and not options.fresh else []
    done = {(one["set"], one["name"]) for one in results}
    wanted = tuple(f"-{how}" for how in options.precision or SAME)
    for name in options.only or SETS:
        for contender in (one for one in CONTENDERS if one.endswith(wanted) and (name, one) not in done):
            command = [sys.executable, __file__, "--steps", options.steps, "--batch", options.batch]
            command += ["--child", contender, model, folder / f"{name}.jsonl"]
            environment = os.environ | {"PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error"}
            ran = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True, env=environment)
            results.append(json.loads(ran.stdout.strip().splitlines()[-1]))
            kept.write_text(json.dumps(results))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
        PAGE.write_text(report(results, options), encoding="utf-8")
    PAGE.write_text(report(results, options), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def report(results: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Return the page."""
    machine = hardware()
    lines = [
        "# The DPO step against TRL's",
        "",
        f"SmolLM2-135M, LoRA r 16 on all linear layers, {options.batch} pairs a step, {options.steps} steps, "
        "the first not timed (median of the others); Debian's package descriptions, the worse answer is another row's. "
        "The same pairs in the same order, the same first weights and rate. TRL: reference computed before the first "
        "step, no checkpointing, micro-batches of as many pairs as its name says. "
        "`python bench/race_dpo.py` writes this page.",
        "",
        f"Machine: {machine.cpu}, {machine.cores} cores, {platform.system()}; torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s) for each.",
    ]
    for data in dict.fromkeys(one["set"] for one in results):
        lines += ["", f"## {data}", "", "| | s/step | × TRL's best | reference s | memory | losses by step |"]
        lines.append("|---|---|---|---|---|---|")
        for precision in SAME:
            rows = [one for one in results if one["set"] == data and one["name"].endswith(precision)]
            if not rows:
                continue
            best = min(one["step_s"] for one in rows if one["name"].startswith("trl"))
            for one in rows:
                losses = " ".join(f"{loss:.4f}" for loss in one["losses"])
                cells = [
                    one["name"],
                    f"{one['step_s']:.2f}",
                    f"{best / one['step_s']:.2f}",
                    f"{one['reference_s']:.0f}",
                ]
                cells += [f"{one['memory'] / 1e9:.1f} GB", losses]
                lines.append(f"| {' | '.join(cells)} |")
            ours, *theirs = rows
            apart = max(abs(a - b) for a, b in zip(ours["losses"], theirs[0]["losses"], strict=True))
            lines_note = "the same" if apart <= SAME[precision] else "NOT the same"
            lines.append(f"| {precision}: losses {lines_note}, {apart:.1e} apart at most | | | | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
