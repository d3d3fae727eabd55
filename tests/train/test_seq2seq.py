"""Sequence to sequence: the loss is transformers' own, training resumes bit for bit, methods take their own kind."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from tests.train.made import same, spec_of, train, weights_of
from transformers import AutoModelForSeq2SeqLM

from luthier.core.artifacts import Base, Prepared
from luthier.core.errors import DataError, ModelError
from luthier.core.events import Event
from luthier.data import room as data_room
from luthier.data.spec import DataSpec, SplitSpec
from luthier.examples.store import Split
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.load import load_model
from luthier.model.seq2seq import Seq2SeqStep, still_dropout
from luthier.model.tiny import ENCODER_DECODERS, save_tiny, save_tiny_seq2seq
from luthier.train.batches import Cut
from luthier.train.methods.dpo.spec import DpoSpec
from luthier.train.methods.seq2seq.spec import Seq2SeqSpec
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.room import _quiet_base
from luthier.train.spec import check_base, check_data, takes


def prepare(folder: Path, family: str) -> Prepared:
    """Prepare short sources and targets of several lengths for a tiny encoder-decoder."""
    draw, rows = random.Random(5), []
    for _ in range(40):
        words = ["".join(draw.choices("abcdefg", k=draw.randint(1, 4))) for _ in range(draw.randint(3, 9))]
        rows.append({"input": "shorten: " + " ".join(words), "output": " ".join(words[: draw.randint(1, 3)])})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = Base(name="tiny", folder=save_tiny_seq2seq(folder / "base", family), weights_sha256="w")
    base = base.model_copy(update={"kind": "encoder-decoder"})
    spec = DataSpec(path=str(folder / "rows.jsonl"), render="source", max_tokens=64)
    spec = spec.model_copy(update={"split": SplitSpec(validation=0.2, test=0.2)})
    return data_room.run(spec, base, folder / "data", list[Event]().append, seed=7)


def theirs(model, rows) -> torch.Tensor:
    """Return the mean loss that transformers' own class has for the same padded batch and its labels."""
    sides = [(row.ids[: row.prompt_tokens], row.ids[row.prompt_tokens :]) for row in rows]
    sources, targets = (max(len(side[i]) for side in sides) for i in (0, 1))
    ids, seen = torch.zeros(len(rows), sources, dtype=torch.long), torch.zeros(len(rows), sources, dtype=torch.long)
    labels = torch.full((len(rows), targets), -100)
    for i, (source, target) in enumerate(sides):
        ids[i, : len(source)], seen[i, : len(source)] = torch.tensor(source), 1
        labels[i, : len(target)] = torch.tensor(target)
    return model(input_ids=ids, attention_mask=seen, labels=labels).loss


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_loss_and_gradients_are_transformers_own_however_they_are_cut(tmp_path: Path, family: str) -> None:
    given = prepare(tmp_path, family)
    split, method = Split(given.split("train")), Seq2SeqSpec().build()
    rows = [split.encoded(i) for i in range(8)]
    assert len({len(row.ids) for row in rows}) > 3, "rows of several lengths are padded"
    reference = AutoModelForSeq2SeqLM.from_pretrained(given.base.folder).eval()
    loss = theirs(reference, rows)
    loss.backward()
    expected = {name: weight.grad for name, weight in reference.named_parameters()}
    # The last one is as a run with gradient checkpointing is: in training mode, but without the base's dropout.
    for size, recompute in ((1, False), (4, False), (8, True)):
        model = load_model(given.base.folder)
        if recompute:
            _quiet_base(model, spec_of(gradient_checkpointing=True))
            assert model.training
        parts = [method(Seq2SeqStep(model), rows[start : start + size]) for start in range(0, 8, size)]
        total = sum(part.loss / method.units(rows) for part in parts)
        total.backward()
        assert sum(part.units for part in parts) == method.units(rows)
        assert total.item() == pytest.approx(loss.item(), abs=1e-5)
        for name, weight in model.named_parameters():
            assert torch.allclose(weight.grad, expected[name], atol=1e-5), (family, size, name)


def test_dropout_of_functions_and_layers_is_still(tmp_path: Path) -> None:
    model = load_model(save_tiny_seq2seq(tmp_path, "bart")).train()
    layer = model.model.encoder.layers[0]
    assert layer.dropout == 0.1
    still_dropout(model)
    assert layer.dropout == layer.activation_dropout == 0.0 and model.config.dropout == 0.1, "the config stays"


@pytest.mark.parametrize(("family", "adapter"), [("t5", LoraSpec(r=4, dropout=0.1)), ("bart", FullSpec())])
def test_it_learns_and_a_resumed_run_ends_in_the_same_bits(tmp_path: Path, family: str, adapter) -> None:
    given = prepare(tmp_path, family)
    spec = spec_of(method=Seq2SeqSpec(), adapter=adapter, steps=12, checkpoint_every=4, learning_rate=1e-2)
    events: list[Event] = []
    done = train(spec, given, tmp_path / "out", events)
    assert done.validation_loss < done.base_validation_loss - 0.1
    assert any("reads source and target apart" in event.message for event in events)

    shutil.copytree(tmp_path / "out", tmp_path / "again")
    for name in ("weights", "checkpoints/step-00000012"):
        shutil.rmtree(tmp_path / "again" / name)
    (tmp_path / "again" / "artifact.json").unlink()
    events.clear()
    resumed = train(spec, given, tmp_path / "again", events)
    assert any("going on from step-00000008" in event.message for event in events)
    assert same(weights_of(tmp_path / "out"), weights_of(resumed.folder))


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    given = prepare(tmp_path, "t5")
    usual = {"method": Seq2SeqSpec(label_smoothing=0.1), "adapter": LoraSpec(r=4), "steps": 3, "learning_rate": 1e-3}
    one, many = (
        train(spec_of(**usual, micro_batch_tokens=tokens), given, tmp_path / str(tokens)) for tokens in (10_000, 1)
    )
    whole, cut = weights_of(one.folder), weights_of(many.folder)
    assert all(torch.allclose(whole[name], cut[name], atol=1e-5) for name in whole)
    split = Split(given.split("train"))
    assert len(Cut(1, share=False)([split.encoded(i) for i in range(4)])) == 4


def test_methods_and_data_and_bases_of_another_kind(tmp_path: Path) -> None:
    of = {kind: Base(name=kind, folder=tmp_path, weights_sha256="w", kind=kind) for kind in ("causal", "encoder")}
    both = Base(name="t5", folder=tmp_path, weights_sha256="w", kind="encoder-decoder")
    check_base(Seq2SeqSpec(), both)
    for kind, other in (("causal", "`method: sft`"), ("encoder", "`method: classify`")):
        with pytest.raises(ModelError, match="`seq2seq` needs an encoder-decoder") as caught:
            check_base(Seq2SeqSpec(), of[kind])
        assert other in str(caught.value) and "T5" in str(caught.value)
    for method in (SftSpec(), DpoSpec()):
        with pytest.raises(ModelError, match=f"`{method.name}` cannot tune an encoder-decoder") as caught:
            check_base(method, both)
        assert "method: seq2seq" in str(caught.value)
    for format, fits in (("preference", "`dpo`"), ("text", "`sft`"), ("tagged", "`extract`")):
        with pytest.raises(DataError, match="does not take this data") as caught:
            check_data(Seq2SeqSpec(), format)
        assert fits in str(caught.value) and "source text" in str(caught.value)
    assert all(takes(Seq2SeqSpec(), name) for name in ("input_output", "prompt_completion", "alpaca", "templated"))


def test_a_causal_base_is_met_before_training(tmp_path: Path) -> None:
    given = prepare(tmp_path, "t5")
    causal = given.base.model_copy(update={"folder": save_tiny(tmp_path / "llama", "llama"), "kind": "causal"})
    with pytest.raises(ModelError, match="needs an encoder-decoder"):
        train(spec_of(method=Seq2SeqSpec()), given.model_copy(update={"base": causal}), tmp_path / "out")
