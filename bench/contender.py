"""One contender of the race, in a process of its own: `contender.py NAME MODEL ROWS STEPS BATCH`; prints JSON.

luthier-fp32, luthier-bf16: the training room.  trl-default: SFTConfig as it comes.  trl-best, trl-best-bf16: no
checkpointing, packed, in fp32 or bf16. All train LoRA r 16 on every linear layer with the same rows per step; the
first step is warm-up and not timed. Real tokens count once per row; pads and repeats never.
"""

import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from luthier.core.artifacts import Base, Prepared
from luthier.core.events import Event
from luthier.examples.example import Example, Segment
from luthier.examples.store import Encoded, write_split
from luthier.jobs.facts import compiler
from luthier.model.adapter import load_tuned
from luthier.model.adapters.lora import LoraSpec
from luthier.model.layout import build_layout
from luthier.model.load import load_model, load_tokenizer
from luthier.model.step import FastStep
from luthier.train import room
from luthier.train.batches import Cut, rows_of_step
from luthier.train.schedules.spec import Linear
from luthier.train.spec import TrainSpec

LEARNING_RATE = 2e-4
HELD_OUT = 64
PACKED_TOKENS = 1024
MICRO_BATCH_TOKENS = 1536
LINEAR_PARAMETERS, LORA_PARAMETERS, HEAD_PARAMETERS = 106_168_320, 4_884_480, 28_311_552
"""Of SmolLM2-135M: all linear layers, LoRA r 16 on them, the LM head."""


@dataclass
class Clock:
    """Wall and CPU time at the end of each step."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """Note the time."""
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())


def encode(tokenizer, row: dict) -> Encoded:
    """Tokenise a row as TRL does: prompt, then completion with the end-of-turn token; loss on the completion."""
    if isinstance(row["prompt"], str):
        prompt = tokenizer(row["prompt"])["input_ids"]
        whole = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token)["input_ids"]
    else:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)
    return Encoded(whole, [False] * len(prompt) + [True] * (len(whole) - len(prompt)), len(prompt))


def luthier(model_dir: Path, rows: list[Encoded], clock: Clock, *, steps: int, batch: int, precision: str) -> Path:
    """Train in Luthier's training room and return the folder of the weights."""
    folder = Path(tempfile.mkdtemp())
    (folder / "examples").mkdir()
    shown = Example(segments=(Segment(text="x", target=True),))
    write_split(folder / "examples" / "train.arrow", ((row, shown) for row in rows))
    write_split(folder / "examples" / "validation.arrow", [])
    given = Prepared(
        folder=folder,
        base=Base(name=model_dir.name, folder=model_dir, weights_sha256=""),
        format="bench",
        rows={"train": len(rows)},
        target_tokens=sum(sum(row.targets) for row in rows),
        total_tokens=sum(len(row.ids) for row in rows),
        longest=max(len(row.ids) for row in rows),
        answer_kind="free",
        data_sha256="",
        context_tokens=8192,
    )
    spec = TrainSpec(
        adapter=LoraSpec(r=16),
        steps=steps,
        batch_size=batch,
        micro_batch_tokens=MICRO_BATCH_TOKENS,
        learning_rate=LEARNING_RATE,
        schedule=Linear(),
        warmup=0.0,
        precision=precision,
        gradient_checkpointing=False,
        fast_step=True,
        compile=compiler() is not None,
        checkpoint_every=steps,
        threads=torch.get_num_threads(),
    )

    def emit(event: Event) -> None:
        if event.kind == "metrics":
            clock.tick()

    return room.run(spec, given, folder, emit, seed=0).weights


def trl(model_dir: Path, raw: list[dict], clock: Clock, *, steps: int, batch: int, name: str) -> Path:
    """Train with TRL and return the folder of the weights."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Ticker(TrainerCallback):
        def on_step_end(self, *args, **kwargs) -> None:
            clock.tick()

    packed = name != "trl-default"
    if packed:
        options = {"packing": True, "max_length": PACKED_TOKENS, "gradient_checkpointing": False}
        options |= {"bf16": name.endswith("bf16"), "per_device_train_batch_size": 1}
        options["gradient_accumulation_steps"] = _packed_rows(model_dir, raw, batch)
    else:
        options = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": batch // 8}
    out = tempfile.mkdtemp()
    config = SFTConfig(
        output_dir=out, max_steps=steps, report_to="none", save_strategy="no", use_cpu=True, seed=0,
        learning_rate=LEARNING_RATE, lr_scheduler_type="linear", disable_tqdm=True, **options,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=load_model(model_dir),
        args=config,
        train_dataset=Dataset.from_list(raw),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        processing_class=load_tokenizer(model_dir),
        callbacks=[Ticker()],
    )
    lengths = _real_tokens_per_step(trainer, steps)
    trainer.train()
    trainer.model.save_pretrained(out, save_embedding_layers=False)
    Path(out, "tokens.json").write_text(json.dumps(lengths))
    return Path(out)


def _packed_rows(model_dir: Path, raw: list[dict], batch: int) -> int:
    """Return how many packed rows hold about `batch` rows."""
    tokenizer = load_tokenizer(model_dir)
    mean = sum(len(encode(tokenizer, row).ids) for row in raw) / len(raw)
    return max(1, round(batch * mean / PACKED_TOKENS))


def _real_tokens_per_step(trainer, steps: int) -> list[int]:
    """Return the real tokens of each optimiser step, counted on the batches TRL will train."""
    per_step = trainer.args.gradient_accumulation_steps
    counts = []
    for _, b in zip(range(steps * per_step), trainer.get_train_dataloader(), strict=False):
        mask = b.get("attention_mask")
        counts.append(int(mask.sum()) if mask is not None else b["input_ids"].numel())
    return [sum(counts[i * per_step : (i + 1) * per_step]) for i in range(steps)]


def held_out_loss(model_dir: Path, weights: Path, rows: list[Encoded]) -> float:
    """Return the tuned model's loss per target token on rows nobody trained."""
    step = FastStep(load_tuned(model_dir, weights))
    with torch.no_grad():
        parts = [step.target_loss(group) for group in Cut(1024, share=True)(rows)]
    return sum(float(part.total) for part in parts) / sum(part.tokens for part in parts)


def work_per_step(rows: list[Encoded], steps: int, batch: int) -> tuple[list[int], list[float]]:
    """Return Luthier's real tokens and floating-point operations of each step, attention's own left out.

    A frozen weight costs 2 operations forward and 2 backward per parameter and computed token, a LoRA weight 6.
    """
    tokens, operations = [], []
    for step in range(steps):
        chosen = [rows[i] for i in rows_of_step(step, rows=len(rows), batch_size=batch, seed=0)]
        layouts = [build_layout(group) for group in Cut(MICRO_BATCH_TOKENS, share=True)(chosen)]
        computed, targets = sum(x.length for x in layouts), sum(len(x.target_ids) for x in layouts)
        tokens.append(sum(len(row.ids) for row in chosen))
        operations.append(computed * (4 * LINEAR_PARAMETERS + 6 * LORA_PARAMETERS) + targets * 4 * HEAD_PARAMETERS)
    return tokens, operations


def main(name: str, model_dir: Path, path: Path, steps: int, batch: int) -> None:
    """Train, measure, print."""
    raw = [json.loads(line) for line in path.open(encoding="utf-8")]
    tokenizer = load_tokenizer(model_dir)
    rows = [encode(tokenizer, row) for row in raw]
    train, held_out = rows[:-HELD_OUT], rows[-HELD_OUT:]
    clock, started, operations = Clock(), time.perf_counter(), None
    if name.startswith("luthier"):
        weights = luthier(model_dir, train, clock, steps=steps, batch=batch, precision=name.rsplit("-", 1)[1])
        per_step, operations = work_per_step(train, steps, batch)
    else:
        weights = trl(model_dir, raw[:-HELD_OUT], clock, steps=steps, batch=batch, name=name)
        per_step = json.loads((weights / "tokens.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    real, wall, cpu = sum(per_step[1:]), clock.wall[-1] - clock.wall[0], clock.cpu[-1] - clock.cpu[0]
    result = {
        "name": name,
        "set": path.stem,
        "tokens_per_s": real / wall,
        "tokens_per_cpu_s": real / cpu,
        "seconds_per_step": wall / (steps - 1),
        "start_seconds": clock.wall[0] - started - wall / (steps - 1),
        "peak_bytes": peak,
        "held_out_loss": held_out_loss(model_dir, weights, held_out),
        "gflop_per_s": sum(operations[1:]) / wall / 1e9 if operations else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
