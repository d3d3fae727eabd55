"""Losses and gradients are TRL's, of the same batch, for `sft` and `dpo`; trl 1.16."""

import copy
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tests.model.adapters import push
from tests.train.made import rows_of

from luthier.examples.store import Encoded
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.step import FastStep, PlainStep, StepModel
from luthier.model.tiny import tiny_model, tiny_tokenizer
from luthier.train.methods.dpo.loss import DpoLoss
from luthier.train.methods.sft.spec import SftSpec

warnings.filterwarnings("ignore", module="trl")
STEPS = (PlainStep, FastStep)
BETA = 0.3
QUIET: dict[str, Any] = {
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "per_device_train_batch_size": 6,
    "max_length": None,
}


@pytest.fixture
def tuned() -> torch.nn.Module:
    model = LoraSpec(r=4).build().attach(tiny_model("llama"), seed=1)
    push(model)
    return model


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


def assert_same(loss: torch.Tensor, model: torch.nn.Module, theirs: torch.Tensor, other: torch.nn.Module) -> None:
    loss.backward()
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    ours, expected = gradients(model), gradients(other)
    assert ours.keys() == expected.keys() and any(gradient.abs().max() > 1e-4 for gradient in ours.values())
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert all((ours[name] - expected[name]).abs().max() <= 1e-5 * largest for name in ours)


def rows_in(batch: dict[str, torch.Tensor]) -> list[Encoded]:
    """Return the rows of a batch of TRL's."""
    rows = []
    for ids, seen, scored in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True):
        length = int(seen.sum())
        targets = [bool(one) for one in scored[:length]]
        rows.append(Encoded(ids[:length].tolist(), targets, targets.index(True)))
    return rows


@pytest.mark.parametrize("kind", STEPS)
def test_sft_is_trls(kind: type[StepModel], tuned: torch.nn.Module, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    rows = [row for row, _ in rows_of(6, 0)]
    told = [{"input_ids": row.ids, "completion_mask": [int(target) for target in row.targets]} for row in rows]
    trainer = SFTTrainer(
        model=copy.deepcopy(tuned),
        args=SFTConfig(output_dir=str(tmp_path), completion_only_loss=True, **QUIET),
        train_dataset=Dataset.from_list(told),
        processing_class=tiny_tokenizer(),
    )
    [batch] = trainer.get_train_dataloader()
    theirs = trainer.compute_loss(trainer.model, batch)
    part = SftSpec().build()(kind(tuned), rows)
    assert_same(part.loss / part.units, tuned, theirs, trainer.model)


@pytest.mark.parametrize("kind", STEPS)
def test_dpo_is_trls(kind: type[StepModel], tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    # All weights: a model that has an adapter TRL takes for one that was trained before, and measures from there.
    tuned = FullSpec().build().attach(tiny_model("llama"), seed=1)
    push(tuned)
    told = [{"prompt": f"a {i} b ", "chosen": "c d" * (i + 1), "rejected": "e f g" + "h" * i} for i in range(6)]
    trainer = DPOTrainer(
        model=copy.deepcopy(tuned),
        ref_model=tiny_model("llama"),
        args=DPOConfig(output_dir=str(tmp_path), beta=BETA, **QUIET),
        train_dataset=Dataset.from_list(told),
        processing_class=tiny_tokenizer(),
    )
    [batch] = trainer.get_train_dataloader()
    theirs = trainer.compute_loss(trainer.model, batch)
    rows = rows_in(batch)
    pairs = [replace(better, rejected=worse) for better, worse in zip(rows[:6], rows[6:], strict=True)]
    with torch.no_grad():
        before = kind(tiny_model("llama")).row_logprobs([answer for pair in pairs for answer in pair.answers])
    gains = [float(better - worse) for better, worse in before.view(-1, 2)]
    pairs = [replace(pair, reference=gain) for pair, gain in zip(pairs, gains, strict=True)]
    part = DpoLoss(BETA)(kind(tuned), pairs)
    assert abs(float(theirs.detach()) - math.log(2)) > 0.01
    assert_same(part.loss / part.units, tuned, theirs, trainer.model)
