"""Tiny tuned models, as training leaves them, to be exported."""

from pathlib import Path

import torch

from luthier.core.artifacts import Base, Exports, Prepared, Trained
from luthier.examples.example import Example, Message
from luthier.examples.store import write_split
from luthier.jobs.export.export import run
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.base import resolve_base
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import save_tiny

ROWS = tuple(
    Example(messages=(Message(role="user", content=f"say {i}"), Message(role="assistant", content="yes")))
    for i in range(5)
)


def trained(folder: Path, family: str, spec: LoraSpec | FullSpec) -> Trained:
    """Return a tiny model whose trained weights were pushed away from where they start."""
    base = resolve_base(str(save_tiny(folder / "base", family)), lambda event: None).model_copy(
        update={"licence": "mit"}
    )
    adapter = spec.build()
    model = adapter.attach(load_model(base.folder), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (w for w in model.parameters() if w.requires_grad):
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    (folder / "train" / "weights").mkdir(parents=True)
    adapter.save(model, folder / "train" / "weights", base_model=str(base.folder))
    return Trained(
        folder=folder / "train",
        prepared=prepared(folder / "data", base),
        adapter=spec.name,
        steps=1,
        best_step=1,
        train_loss=1.0,
        trainable_parameters=1,
        total_parameters=2,
        tokens_per_second=1.0,
    )


def prepared(folder: Path, base: Base) -> Prepared:
    template = Template(load_tokenizer(base.folder))
    (folder / "examples").mkdir(parents=True)
    for name, rows in (("train", ROWS), ("validation", ()), ("test", ROWS[:2])):
        write_split(folder / "examples" / f"{name}.arrow", ((template.encode(row), row) for row in rows))
    return Prepared(
        folder=folder,
        base=base,
        format="chat",
        rows={"train": 5, "validation": 0, "test": 2},
        target_tokens=10,
        total_tokens=50,
        longest=20,
        answer_kind="free",
        data_sha256="d",
        context_tokens=512,
    )


def export(given: Trained, out: Path, *names: str) -> Exports:
    return run(names, given, out, lambda event: None, card="# A card\n")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(20)[None]).logits
