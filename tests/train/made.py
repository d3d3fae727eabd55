"""Small prepared data and quick runs on a tiny model, for the tests of training."""

import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file

from luthier.core.artifacts import Base, Prepared
from luthier.core.events import Event
from luthier.examples.example import Example, Message
from luthier.examples.store import Encoded, write_split
from luthier.model.adapters.lora import LoraSpec
from luthier.model.tiny import save_tiny
from luthier.train import room
from luthier.train.spec import TrainSpec


def spec_of(**changes) -> TrainSpec:
    values = {
        "steps": 24,
        "batch_size": 4,
        "micro_batch_tokens": 96,
        "learning_rate": 5e-2,
        "precision": "fp32",
        "gradient_checkpointing": False,
        "fast_step": True,
        "compile": False,
        "threads": 1,
        "checkpoint_every": 3,
        "validate_every": 4,
        "adapter": LoraSpec(r=4, dropout=0.1),
    }
    return TrainSpec(**(values | changes))


def rows_of(count: int, seed: int):
    """Rows whose answer follows from their prompt, after a shared instruction."""
    draw = random.Random(seed)
    for i in range(count):
        kind = draw.randrange(3)
        ids = [*range(20, 44), 60 + kind, draw.randrange(70, 90), 100 + kind, 3]
        example = Example(messages=(Message(role="assistant", content=f"{kind}"),), file="rows.jsonl", row=i + 1)
        yield Encoded(ids, [False] * 26 + [True, True], 26), example


def make_prepared(folder: Path, *, rows=rows_of, format: str = "chat") -> Prepared:
    base = Base(name="tiny", folder=save_tiny(folder / "base", "llama"), weights_sha256="w")
    (folder / "examples").mkdir()
    sizes = {"train": 60, "validation": 12, "test": 12}
    for seed, (name, count) in enumerate(sizes.items()):
        write_split(folder / "examples" / f"{name}.arrow", rows(count, seed))
    return Prepared(
        folder=folder,
        base=base,
        format=format,
        rows=sizes,
        target_tokens=120,
        total_tokens=1680,
        longest=28,
        answer_kind="closed",
        data_sha256="d",
        context_tokens=256,
    ).write(folder)


def train(spec: TrainSpec, given: Prepared, out: Path, events: list[Event] | None = None):
    return room.run(spec, given, out, (events if events is not None else []).append, seed=7)


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(next((out / "weights").glob("*.safetensors")))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
