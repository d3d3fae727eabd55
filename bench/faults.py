"""Faults put into healthy runs of tiny models, and what the diagnosis says: `faults.py [--healthy N] [--out FILE]`.

Every run is a real one: rows, data room, training, evaluation. A fault changes the recipe, the rows, a line of the
training while it runs, or the run's surroundings afterwards. The tests use a part of this, `make proof` all.
"""

import argparse
import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import torch
from safetensors.torch import load_file, save_file

from luthier.core.errors import LuthierError
from luthier.core.runfolder import RunFolder
from luthier.examples.store import Encoded, Split, write_split
from luthier.jobs.diagnose.desk import diagnose_run
from luthier.jobs.pipeline import run_recipe
from luthier.model.tiny import FAMILIES, save_tiny
from luthier.recipe_io.read import load_recipe
from luthier.train.batches import Batch, Batches
from luthier.train.loop import Loop
from luthier.train.methods.method import Part

WORDS = {"red": "warm", "blue": "cold", "grey": "dull"}
LETTERS = "abcdefghijklmnop"
ROWS = 320
Row = dict[str, Any]


def learnable(seed: int, count: int = ROWS) -> list[Row]:
    """Return rows whose last word decides their label, behind letters that say nothing."""
    draw = random.Random(seed)
    words = [draw.choice(list(WORDS)) for _ in range(count)]
    return [{"text": f"{''.join(draw.choices(LETTERS, k=10))} {word}", "label": WORDS[word]} for word in words]


def recipe_of(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the healthy recipe with dotted values changed."""
    recipe: dict[str, Any] = {
        "base_model": "base",
        "data": {"path": "rows.jsonl", "instruction": "Say:", "split": {"validation": 0.15, "test": 0.15}},
        "train": {
            "adapter": {"name": "full"}, "steps": 60, "batch_size": 16, "learning_rate": 1e-2, "threads": 1,
            "checkpoint_every": 40,
            "precision": "fp32", "compile": False, "micro_batch_tokens": 2048, "gradient_checkpointing": False,
        },
        "evaluate": {"baselines": [], "resamples": 200, "max_rows": 48},
        "export": [],
    }  # fmt: skip
    for path, value in changes.items():
        *blocks, last = path.split(".")
        block = recipe
        for name in blocks:
            block = block.setdefault(name, {})
        block[last] = value
    return recipe


@dataclass(frozen=True)
class Fault:
    """How a fault gets into a run."""

    recipe: dict[str, Any] = field(default_factory=dict)
    """Dotted values of the recipe."""
    rows: Callable[[list[Row]], list[Row]] = lambda rows: rows
    during: Callable[[], Any] = nullcontext
    """A context in which the run is done."""
    after: Callable[[RunFolder], None] = lambda run: None
    """What happens to the run, or around it, when it is done."""
    files: Callable[[Path, list[Row]], None] = lambda folder, rows: None
    """Further files beside the rows."""


def run_with(fault: Fault, folder: Path, *, family: str = "llama", seed: int = 0) -> RunFolder:
    """Do a tiny run with a fault in it; one that fails on its fault is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny(folder / "base", family, seed=seed)
    rows = fault.rows(learnable(seed))
    write_rows(folder / "rows.jsonl", rows)
    fault.files(folder, rows)
    (folder / "recipe.yaml").write_text(json.dumps(recipe_of({"seed": seed, **fault.recipe})))
    run = RunFolder(folder / "run")
    with fault.during(), suppress(LuthierError):
        run_recipe(load_recipe(folder / "recipe.yaml"), run)
    fault.after(run)
    return run


def copied(run: RunFolder, folder: Path) -> RunFolder:
    """Return a copy of a run with a copy of its base, so that the original stays healthy."""
    shutil.copytree(run.path.parent, folder, dirs_exist_ok=True)
    copy = RunFolder(folder / "run")
    for path in (copy.plan, copy.recipe, *copy.path.glob("*/artifact.json")):
        path.write_text(path.read_text().replace(str(run.path.parent), str(folder)))
    return copy


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def flipped(rows: list[Row], every: int) -> list[Row]:
    """Return the rows with each so-manieth label wrong."""
    labels = list(WORDS.values())
    wrong = {label: labels[(i + 1) % 3] for i, label in enumerate(labels)}
    return [{**row, "label": wrong[row["label"]]} if i % every == 0 else row for i, row in enumerate(rows)]


def guessed(rows: list[Row]) -> list[Row]:
    """Return few and short rows whose label nothing decides: they can only be learned by heart."""
    draw = random.Random(1)
    texts = draw.sample([a + b for a in LETTERS for b in LETTERS], 48)
    return [{"text": text, "label": draw.choice(list(WORDS.values()))} for text in texts]


def contradicted(rows: list[Row]) -> list[Row]:
    """Return the rows, a tenth of them once more with another label."""
    return rows + flipped(rows[: len(rows) // 10], 1)


def odd(rows: list[Row]) -> list[Row]:
    """Return the rows with three whose answer is like no other."""
    draw = random.Random(2)
    strange = ["".join(draw.choices("QXZ#%&@!?0123456789", k=40)) for _ in range(3)]
    return [{**row, "label": strange[i // 100]} if i in (7, 107, 207) else row for i, row in enumerate(rows)]


def lengthened(rows: list[Row]) -> list[Row]:
    """Return the rows, each tenth of them longer than the limit."""
    return [{**row, "text": f"{LETTERS * 6} {row['text']}"} if i % 10 == 0 else row for i, row in enumerate(rows)]


def weightless(rows: list[Row]) -> list[Row]:
    """Return the rows as conversations, of which a quarter trains nothing."""
    return [
        {
            "messages": [
                {"role": "user", "content": row["text"]},
                {"role": "assistant", "content": row["label"], "weight": int(i % 4 != 0)},
            ]
        }
        for i, row in enumerate(rows)
    ]


def trained_test_rows(folder: Path, rows: list[Row]) -> None:
    """Write a test file of which half was trained."""
    write_rows(folder / "test.jsonl", rows[:20] + learnable(99, 20))


def other_template(run: RunFolder) -> None:
    """Give the base another chat template than the run was trained with."""
    path = run.path.parent / "base" / "chat_template.jinja"
    path.write_text(path.read_text().replace("You are tiny.", "You are huge."))


def other_base(run: RunFolder) -> None:
    """Put another model in the base's folder."""
    save_tiny(run.path.parent / "base", "llama", seed=41)


def broken_tensor(run: RunFolder) -> None:
    """Make one of the final tensors no number."""
    path = next((run.room("train") / "weights").glob("*.safetensors"))
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})


@contextmanager
def no_end_of_turn() -> Iterator[None]:
    """Let no row's last token carry loss."""
    from luthier.data import room

    def without_end(row: Encoded) -> Encoded:
        return Encoded(row.ids, [*row.targets[:-1], False], row.prompt_tokens)

    def write(prepared: Any, out: Path) -> None:
        real(prepared, out)
        split = Split(out / "examples" / "train.arrow")
        rows = [(without_end(split.encoded(i)), split.example(i)) for i in range(len(split))]
        (out / "examples" / "train.arrow").unlink()
        write_split(out / "examples" / "train.arrow", rows)

    real = room._write_splits
    with patch.object(room, "_write_splits", write), patch.object(room, "cache_key", lambda *_, **__: None):
        yield


@contextmanager
def slow_rows() -> Iterator[None]:
    """Let each batch take long to come."""
    real = Batches.batch

    def slow(self: Batches, step: int) -> Batch:
        time.sleep(0.1)
        return real(self, step)

    with patch.object(Batches, "batch", slow):
        yield


@contextmanager
def at_step(wanted: int, harm: Callable[[Loop], None]) -> Iterator[None]:
    """Do harm to the training at one step."""
    real = Loop.parts

    def harmed(self: Loop, batch: Batch, *, units: int) -> Iterator[Part]:
        if batch.step + 1 == wanted:
            harm(self)
        return real(self, batch, units=units)

    with patch.object(Loop, "parts", harmed):
        yield


def inner_matrix(loop: Loop) -> torch.nn.Parameter:
    """Return a matrix of a layer, which every token passes through."""
    layers = re.compile(r"\b(?:layers|h)\.0\.")
    return next(weight for name, weight in loop.weights.items() if layers.search(name) and weight.ndim == 2)


@contextmanager
def still_tensor() -> Iterator[None]:
    """Let one trained tensor get no gradient."""
    real = Loop.backward

    def without(self: Loop, loss: torch.Tensor) -> None:
        real(self, loss)
        inner_matrix(self).grad = None

    with patch.object(Loop, "backward", without):
        yield


def no_memory(loop: Loop) -> None:
    """Be out of memory at the next rows."""
    loop.method = Mock(side_effect=MemoryError, whole=False)


def no_number(loop: Loop) -> None:
    """Make a weight infinite."""
    with torch.no_grad():
        inner_matrix(loop).view(-1)[0] = float("inf")


HEALTHY = Fault({"train.steps": 120})
"""No fault, and steps enough that every family learns the labels."""
SHORT = {"train.steps": 40, "evaluate": None}
FAULTS: dict[str, Fault] = {
    "overfitting": Fault(
        {"train.steps": 200, "train.batch_size": 8, "data.split": {"validation": 0.3, "test": 0.1}, "evaluate": None},
        rows=guessed,
    ),
    "underfitting": Fault({"train.steps": 24, "train.learning_rate": 2e-3, "train.schedule": "constant"}),
    "learning-rate-too-high": Fault({"train.learning_rate": 1.0, "train.warmup": 0.0, "evaluate": None}),
    "learning-rate-too-low": Fault({**SHORT, "train.learning_rate": 1e-6}),
    "divergence": Fault({"evaluate": None}, during=lambda: at_step(31, no_number)),
    "loss-spikes": Fault({"train.batch_size": 8, "evaluate": None}, rows=odd),
    "bad-labels": Fault({"train.steps": 120, "evaluate": None}, rows=lambda rows: flipped(rows, 10)),
    "conflicting-labels": Fault(SHORT, rows=contradicted),
    "template-mismatch": Fault(after=other_template),
    "never-stops": Fault(during=no_end_of_turn),
    "truncated-rows": Fault({**SHORT, "data.max_tokens": 80}, rows=lengthened),
    "leakage": Fault({**SHORT, "data.test_path": "test.jsonl", "data.repeats": "keep"}, files=trained_test_rows),
    "too-few-target-tokens": Fault({**SHORT, "data.instruction": None}, rows=weightless),
    "dead-tensors": Fault(SHORT, during=still_tensor),
    "data-bound": Fault({"evaluate": None}, during=slow_rows),
    "memory-bound": Fault({"evaluate": None}, during=lambda: at_step(31, no_memory)),
    "wrong-base": Fault(after=other_base),
}
"""One fault for each name that the diagnosis knows."""


def main() -> None:
    """Put in every fault, do healthy runs of all families, and write a table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--healthy", type=int, default=10)
    words.add_argument("--only", nargs="*", default=list(FAULTS))
    words.add_argument("--out", type=Path)
    asked = words.parse_args()
    lines = ["| run | found | not checked |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            lines.append(told(name, run_with(FAULTS[name], Path(folder) / name)))
            print(lines[-1], flush=True)
        for seed in range(asked.healthy):
            family = FAMILIES[seed % len(FAMILIES)]
            run = run_with(HEALTHY, Path(folder) / f"healthy-{seed}", family=family, seed=seed)
            lines.append(told(f"healthy: {family}, seed {seed}", run))
            print(lines[-1], flush=True)
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


def told(name: str, run: RunFolder) -> str:
    """Return a line of the table."""
    diagnosis = diagnose_run(run)
    found = ", ".join(f"{finding.name} ({finding.confidence:.0%})" for finding in diagnosis.findings) or "nothing"
    return f"| {name} | {found} | {', '.join(check.name for check in diagnosis.not_checked) or 'nothing'} |"


if __name__ == "__main__":
    main()
