"""Question answering: the loss is transformers' own, and every invariant of training holds for it."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.train.headed import base_of
from tests.train.made import same, spec_of, weights_of
from transformers import AutoModelForQuestionAnswering

from luthier.core.artifacts import Prepared
from luthier.core.errors import ModelError
from luthier.core.events import Event
from luthier.data import room as data_room
from luthier.data.spec import DataSpec, SplitSpec
from luthier.examples.store import Split
from luthier.model.adapter import load_tuned, merge
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.headcard import HeadCard
from luthier.model.headed import load_headed
from luthier.model.headstep import HeadStep
from luthier.train import room
from luthier.train.batches import Cut
from luthier.train.heads import head_card
from luthier.train.methods.qa.spec import QaSpec


def asked_rows(count: int = 60) -> list[dict[str, object]]:
    """Rows whose answer is the sign that the question names, at any place; each fourth text does not hold it."""
    draw, rows = random.Random(3), []
    for number in range(count):
        words = ["".join(draw.choices(("ba", "de", "gi", "ko"), k=draw.randint(1, 3))) for _ in range(9)]
        mark, at = "xyz"[number % 3], (0, 8, draw.randrange(9))[number % 3 if number < 30 else 2]
        if number % 4:
            words[at] = mark * 3
        text = " ".join(words)
        found = {"text": [mark * 3], "answer_start": [text.index(mark * 3)]} if number % 4 else {}
        rows.append({"question": f"{mark}?", "context": text, "answers": found or {"text": [], "answer_start": []}})
    return rows


def prepare(folder: Path, family: str = "bert", *, max_tokens: int = 64, rows=None) -> Prepared:
    folder.mkdir(exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or asked_rows()))
    split = SplitSpec(validation=0.2, test=0.2)
    spec = DataSpec(path=str(path), render="text", max_tokens=max_tokens, split=split)
    return data_room.run(spec, base_of(folder, family), folder / "data", list[Event]().append, seed=7)


def ready(given: Prepared, method: QaSpec):
    """Return the step, the loss, the windows and the events of making them."""
    split, events = Split(given.split("train")), list[Event]()
    card = head_card(method, given, split)
    step, loss = HeadStep(load_headed(given.base.folder, card, seed=1), card), method.build()
    return step, loss, loss.referenced(step, split, Cut(10_000, share=False), events.append), events


def theirs(step: HeadStep, rows) -> torch.Tensor:
    """Return the loss of transformers' own head for the same rows, all of one length."""
    ids = torch.tensor([row.ids for row in rows])
    ends = torch.tensor([row.truth for row in rows]).long()
    more = {}
    if step.card.segments:
        more["token_type_ids"] = torch.tensor([[int(i >= r.prompt_tokens) for i in range(len(r.ids))] for r in rows])
    seen = torch.ones_like(ids)
    return step.model(
        input_ids=ids, attention_mask=seen, start_positions=ends[:, 0], end_positions=ends[:, 1], **more
    ).loss


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama", "gpt2"])
def test_loss_and_gradients_are_transformers_own(tmp_path: Path, family: str) -> None:
    given = prepare(tmp_path, family, max_tokens=36)
    step, loss, windows, _ = ready(given, QaSpec(stride=8))
    assert step.card.segments == (family == "bert") and len(windows) > len(Split(given.split("train")))
    all_rows = [windows.encoded(i) for i in range(len(windows))]
    full = [row for row in all_rows if len(row.ids) == 36][:6]
    mixed = sorted(all_rows, key=lambda row: len(row.ids))[:: len(all_rows) // 5]
    assert len({len(row.ids) for row in mixed}) > 1
    # A batch without pads as it is; rows of several lengths each by itself, since pads count in transformers' loss.
    for rows, groups in ((full, [full]), (mixed, [[row] for row in mixed])):
        gradients = []
        their_loss = sum(theirs(step, group) for group in groups) / len(groups)
        for mean in (loss(step, rows).loss / loss.units(rows), their_loss):
            step.model.zero_grad(set_to_none=True)
            mean.backward()
            found = {name: w.grad.clone() for name, w in step.model.named_parameters() if w.grad is not None}
            gradients.append((mean.detach(), found))
        (ours, mine), (other, their) = gradients
        assert torch.allclose(ours, other, atol=1e-5) and float(ours) > 0.05
        assert mine.keys() == their.keys() and len(mine) > 5
        assert all(torch.allclose(mine[name], their[name], atol=1e-5) for name in mine)
    parts = sum(loss(step, group).loss for group in Cut(60, share=False)(mixed))
    assert torch.allclose(loss(step, mixed).loss, parts, atol=1e-4)


def test_rows_whose_answer_is_in_no_window_are_counted_and_left_out(tmp_path: Path) -> None:
    long = {"question": "x?", "context": "ba " * 4 + "x " * 30 + "de", "answers": [{"text": "x " * 29 + "x"}]}
    long["answers"][0]["answer_start"] = 12
    rows = [*asked_rows(40), *({**long, "question": f"x{n}?", "context": f"{long['context']} {n}"} for n in range(8))]
    given = prepare(tmp_path, max_tokens=32, rows=rows)
    step, _, windows, events = ready(given, QaSpec(stride=4, max_answer_tokens=5))
    trained = Split(given.split("train"))
    unreached = sum(len(example.answer) > 50 for example in trained.examples())
    assert unreached > 0 and step.card.unreached == unreached and step.card.windows == len(windows)
    assert step.card.longest == 5 and f"{unreached} of {len(trained)} rows are left out" in events[-1].message
    left = windows.rows_of(list(range(len(windows))))
    assert len(left) == len(trained) - unreached
    assert not any(len(trained.example(row).answer) > 50 for row in left)


def quick(folder: Path, given: Prepared, *, out: str = "train", **changes):
    usual = {"method": QaSpec(stride=6), "adapter": LoraSpec(r=4), "steps": 8, "batch_size": 8, "fast_step": False}
    usual |= {"micro_batch_tokens": 400, "checkpoint_every": 4, "validate_every": 4, "learning_rate": 1e-3}
    events: list[Event] = []
    return room.run(spec_of(**(usual | changes)), given, folder / out, events.append, seed=7), events


@pytest.mark.parametrize("adapter", [LoraSpec(r=4), FullSpec()], ids=lambda spec: spec.name)
def test_saved_is_loaded_here_and_in_the_libraries(tmp_path: Path, adapter) -> None:
    given = prepare(tmp_path)
    trained, _ = quick(tmp_path, given, adapter=adapter, steps=4)
    row = Split(given.split("test")).encoded(0)
    second = [int(i >= row.prompt_tokens) for i in range(len(row.ids))]
    given_to = {"input_ids": torch.tensor([row.ids]), "token_type_ids": torch.tensor([second])}
    ours = load_tuned(given.base.folder, trained.weights)
    if adapter.name == "full":
        other = AutoModelForQuestionAnswering.from_pretrained(trained.weights)
    else:
        wrapped = PeftModel.from_pretrained(
            AutoModelForQuestionAnswering.from_pretrained(given.base.folder), trained.weights
        )
        # PEFT's own class would not hand on `token_type_ids`.
        other = wrapped.get_base_model()
        names = weights_of(trained.folder)
        assert all("lora_" in name or "qa_outputs" in name for name in names)
        assert any("qa_outputs.weight" in name for name in names)
    with torch.no_grad():
        there = other.eval()(**given_to)
        expected = torch.stack([there.start_logits[0], there.end_logits[0]], dim=-1)
        card = HeadCard.read(trained.weights)
        assert torch.allclose(HeadStep(ours, card).logits([row]), expected, atol=1e-5)
        assert torch.allclose(HeadStep(merge(ours), card).logits([row]), expected, atol=1e-5)


def test_resumed_is_uninterrupted_and_the_threshold_is_asked_or_fitted(tmp_path: Path) -> None:
    given = prepare(tmp_path, max_tokens=36)
    whole, events = quick(tmp_path, given)
    card = HeadCard.read(whole.weights)
    assert card.fitted_on == len(Split(given.split("validation"))) >= 10 and card.threshold is not None
    assert any("validation rows" in event.message and "threshold" in event.data for event in events)
    expected = weights_of(whole.folder)
    again = tmp_path / "again"
    shutil.copytree(whole.folder, again)
    shutil.rmtree(again / "weights")
    shutil.rmtree(again / "checkpoints" / "step-00000008")
    (again / "artifact.json").unlink()
    resumed, events = quick(tmp_path, given, out="again")
    assert any("going on from step-00000004" in event.message for event in events)
    assert same(expected, weights_of(resumed.folder)) and HeadCard.read(resumed.weights) == card
    fixed, _ = quick(tmp_path, given, out="fixed", method=QaSpec(no_answer_threshold=1.5), steps=1)
    assert HeadCard.read(fixed.weights).threshold == 1.5


def test_questions_about_one_text_stay_in_one_split(tmp_path: Path) -> None:
    rows = [{**row, "question": f"{row['question']} {n}"} for row in asked_rows(30) for n in range(3)]
    for render in ("text", "chat"):
        family, path = {"text": "bert", "chat": "llama"}[render], tmp_path / render
        path.mkdir()
        (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = DataSpec(path=str(path / "rows.jsonl"), render=render, split=SplitSpec(validation=0.2, test=0.2))
        given = data_room.run(spec, base_of(path, family), path / "data", list[Event]().append, seed=7)
        parts = [
            {one.passage for one in Split(given.split(name)).examples()} for name in ("train", "validation", "test")
        ]
        assert all(parts) and sum(map(len, parts)) == 30 == len(set.union(*parts))


def test_models_without_a_class_for_questions_are_refused(tmp_path: Path) -> None:
    given = prepare(tmp_path, "gemma3")
    with pytest.raises(ModelError, match="no head fits on this model"):
        quick(tmp_path, given)
