"""Direct preference optimisation: it begins at ln 2, learns what is preferred, resumes bit for bit, and takes pairs."""

import math
import os
import random
import signal
from dataclasses import replace

import pytest
import torch
from tests.train.made import make_prepared, metrics_of, same, spec_of, train, weights_of

from luthier.core.artifacts import Prepared
from luthier.core.errors import DataError, Interrupted, TrainingError
from luthier.core.events import Event
from luthier.examples.example import Example, Message
from luthier.examples.store import Encoded, Split
from luthier.model.adapter import load_tuned
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.load import load_model
from luthier.model.scoring import row_losses
from luthier.model.step import FastStep, PlainStep
from luthier.model.tiny import tiny_model
from luthier.train import guards, room
from luthier.train.batches import Cut
from luthier.train.methods.dpo.loss import DpoLoss
from luthier.train.methods.dpo.reference import Referenced, referenced
from luthier.train.methods.dpo.spec import DpoSpec

LN2 = math.log(2)


def pairs_of(count: int, seed: int):
    """Pairs after a shared instruction: of two answers, the one that goes with the prompt's last token is preferred."""
    draw = random.Random(seed)
    for i in range(count):
        kind = draw.randrange(3)
        prompt = [*range(20, 44), draw.randrange(70, 90), 60 + kind]
        answers = [[100 + kind, draw.randrange(90, 99), 3], [100 + (kind + 1) % 3, *[draw.randrange(90, 99)] * 2, 3]]
        better, worse = (Encoded([*prompt, *a], [False] * 26 + [True] * len(a), 26) for a in answers)
        says = [Message(role="assistant", content=f"{kind} {which}") for which in ("better", "worse")]
        question = Message(role="user", content=str(i))
        example = Example(messages=(question, says[0]), rejected=says[1], file="pairs.jsonl", row=i + 1)
        yield replace(better, rejected=worse), example


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    return make_prepared(tmp_path_factory.mktemp("prepared"), rows=pairs_of, format="preference")


def spec(**changes):
    usual = {"method": DpoSpec(beta=0.2), "learning_rate": 1e-2, "adapter": LoraSpec(r=4)}
    return spec_of(**(usual | changes))


def test_pairs_are_stored_whole(prepared):
    split = Split(prepared.split("train"))
    wanted = [encoded for encoded, _ in pairs_of(60, 0)]
    assert [split.encoded(i) for i in range(len(split))] == wanted
    assert split.example(0).rejected.content.endswith("worse")


@pytest.mark.parametrize(("adapter", "rate"), [(LoraSpec(r=8), 2e-2), (FullSpec(), 2e-3)], ids=["lora", "full"])
def test_it_begins_at_ln_2_and_learns_what_is_preferred(prepared, tmp_path, adapter, rate):
    trained = train(spec(adapter=adapter, steps=80, learning_rate=rate), prepared, tmp_path)
    rows = metrics_of(tmp_path)
    assert rows[0]["validation_loss"] == pytest.approx(LN2, abs=1e-5)
    assert rows[1]["loss"] == pytest.approx(LN2, abs=1e-4) and rows[1]["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert trained.validation_loss < 0.85 * LN2
    assert rows[-1]["validation_accuracy"] > 0.9 and rows[-1]["validation_reward_margin"] > 0.2

    # The rewards are of the tuned model against the base model, as anyone computes them.
    loss = 0.0
    split = Split(prepared.split("validation"))
    pairs = [split.encoded(i) for i in range(len(split))]
    tuned, base = load_tuned(prepared.base.folder, trained.weights), load_model(prepared.base.folder)
    for pair in pairs:
        (better, worse), (was, was_worse) = (row_losses(model, pair.answers) for model in (tuned, base))
        margin = 0.2 * ((was.total - better.total) - (was_worse.total - worse.total))
        loss += math.log1p(math.exp(-margin)) / len(pairs)
    assert trained.validation_loss == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("adapter", [LoraSpec(r=4, dropout=0.1), FullSpec()], ids=["dropout", "full"])
def test_a_run_that_goes_on_keeps_its_reference_and_its_bits(prepared, tmp_path, adapter):
    ours = spec(adapter=adapter, steps=16, learning_rate=3e-3, snapshots=1)
    train(ours, prepared, tmp_path / "straight")

    def interrupt(event: Event) -> None:
        if event.kind == "metrics" and event.data["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        room.run(ours, prepared, tmp_path / "paused", interrupt, seed=7)
    train(ours, prepared, tmp_path / "paused")
    assert same(weights_of(tmp_path / "paused"), weights_of(tmp_path / "straight"))
    names = ("step", "loss", "accuracy", "reward_margin", "validation_loss", "validation_accuracy")
    paused, straight = (
        [[row.get(name) for name in names] for row in metrics_of(tmp_path / run)] for run in ("paused", "straight")
    )
    assert paused == straight


def test_loss_is_the_papers_and_a_tie_is_half_right():
    step = PlainStep(tiny_model("llama"))
    (pair, _), (other, _) = pairs_of(2, 3)
    logprobs = [float(x) for x in step.row_logprobs([*pair.answers, *other.answers]).detach()]
    gains = [logprobs[0] - logprobs[1], logprobs[2] - logprobs[3]]
    part = DpoLoss(0.5)(step, [replace(pair, reference=gains[0] - 2.0), replace(other, reference=gains[1])])
    by_hand = math.log1p(math.exp(-0.5 * 2.0)) + LN2
    assert float(part.loss.detach()) == pytest.approx(by_hand, rel=1e-5) and part.units == 2
    assert float(part.measured["reward_margin"]) == pytest.approx(1.0, abs=1e-4)
    tied = DpoLoss(0.5)(step, [replace(pair, reference=float(step.row_logprobs(pair.answers).detach().diff()[0] * -1))])
    assert float(tied.measured["accuracy"]) == 0.5


class Pairs:
    def __init__(self, rows: list[Encoded]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def encoded(self, index: int) -> Encoded:
        return self.rows[index]


@pytest.mark.parametrize("kind", [PlainStep, FastStep])
def test_the_reference_is_in_the_order_of_the_rows(kind):
    pairs = [encoded for encoded, _ in pairs_of(20, 1)]
    model = LoraSpec(r=4, dropout=0.5).build().attach(tiny_model("llama"), seed=1).train()
    events: list[Event] = []
    found = referenced(kind(model), Pairs(pairs), Cut(64, share=kind is FastStep), events.append)
    assert model.training, "the model trains on as it did"
    with torch.no_grad():
        alone = [PlainStep(tiny_model("llama")).row_logprobs(pair.answers) for pair in pairs]
    assert [found.encoded(i).reference for i in range(20)] == pytest.approx([float(a - b) for a, b in alone], abs=1e-4)
    assert events[-1].data == {"done": 20, "total": 20}


def test_a_pair_stays_together_and_shares_its_prompt():
    pairs = [encoded for encoded, _ in pairs_of(30, 1)]
    shared, alone = Cut(90, share=True)(pairs), Cut(90, share=False)(pairs)
    assert sum(map(len, shared)) == sum(map(len, alone)) == 30
    assert len(shared) < len(alone) == 30


def test_a_wrong_reference_is_found_before_the_first_step():
    step, method = PlainStep(tiny_model("llama")), DpoLoss(0.1)
    rows = referenced(step, Pairs([encoded for encoded, _ in pairs_of(4, 1)]), Cut(64, share=False), lambda event: None)
    guards.check_method(method, step, [rows.encoded(i) for i in range(4)], "fp32")
    wrong = Referenced(rows.split, rows.margins + 1)
    with pytest.raises(TrainingError, match="first loss"):
        guards.check_method(method, step, [wrong.encoded(i) for i in range(4)], "fp32")


def test_data_and_method_must_fit(prepared, tmp_path):
    with pytest.raises(DataError) as pairs_to_sft:
        train(spec_of(), prepared, tmp_path)
    assert "one answer" in pairs_to_sft.value.why and "`dpo`" in pairs_to_sft.value.hint
    with pytest.raises(DataError) as chat_to_dpo:
        train(spec(), prepared.model_copy(update={"format": "chat"}), tmp_path)
    assert "pairs" in chat_to_dpo.value.why and "`chat`" in chat_to_dpo.value.why
    assert "`sft`" in chat_to_dpo.value.hint
