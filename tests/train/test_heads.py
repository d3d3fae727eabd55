"""Heads: the losses are transformers' own, and every invariant of training holds for them."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.train.headed import METHODS, prepare
from tests.train.made import same, spec_of, weights_of
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from luthier.core.errors import DataError, ModelError
from luthier.core.events import Event
from luthier.examples.store import Split
from luthier.model.adapter import load_tuned, merge
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.headcard import HeadCard
from luthier.model.headed import head_modules, load_headed
from luthier.model.headstep import HeadStep, head_logits
from luthier.train import room
from luthier.train.batches import Cut
from luthier.train.head_start import output_layer, start_head
from luthier.train.heads import fitted_temperature, head_card
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.extract.spec import ExtractSpec
from luthier.train.methods.regress.spec import RegressSpec
from luthier.train.methods.sft.spec import SftSpec

CASES = [(kind, family) for kind in METHODS for family in ("bert", "llama") if (kind, family) != ("spans", "llama")]
CASES += [("label", "roberta"), ("label", "distilbert"), ("spans", "distilbert"), ("label", "gpt2")]


def ready(folder: Path, kind: str, family: str):
    """Return the step, the method's loss and some rows with their truth."""
    given = prepare(folder, kind, family)
    split, method = Split(given.split("train")), METHODS[kind]()
    card = head_card(method, given, split)
    step, loss = HeadStep(load_headed(given.base.folder, card, seed=1), card), method.build()
    judged = loss.referenced(step, split, Cut(10_000, share=False), print)
    return step, loss, [judged.encoded(i) for i in range(8)]


def theirs(step: HeadStep, rows) -> torch.Tensor:
    """Return the loss that transformers' own head has for the same padded batch."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), step.model.config.pad_token_id)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)], mask[i, : len(row.ids)] = torch.tensor(row.ids), 1
        for place, number in zip(row.words, row.truth, strict=False):
            labels[i, place] = int(number)
    kind = step.card.kind
    if kind != "spans":
        truth = torch.tensor([row.truth for row in rows])
        labels = truth[:, 0].long() if kind == "label" else truth[:, 0] if kind == "score" else truth
    return step.model(input_ids=ids, attention_mask=mask, labels=labels).loss


@pytest.mark.parametrize(("kind", "family"), CASES)
def test_loss_and_gradients_are_transformers_own(tmp_path: Path, kind: str, family: str) -> None:
    step, loss, rows = ready(tmp_path, kind, family)
    gradients = []
    for mean in (loss(step, rows).loss / loss.units(rows), theirs(step, rows)):
        step.model.zero_grad(set_to_none=True)
        mean.backward()
        gradients.append(
            (mean.detach(), {n: w.grad.clone() for n, w in step.model.named_parameters() if w.grad is not None})
        )
    (ours, mine), (other, their) = gradients
    assert torch.allclose(ours, other, atol=1e-5) and float(ours) > 0.05
    assert mine.keys() == their.keys() and len(mine) > 5
    assert all(torch.allclose(mine[name], their[name], atol=1e-5) for name in mine)


def test_the_split_into_micro_batches_changes_nothing(tmp_path: Path) -> None:
    step, loss, rows = ready(tmp_path, "label", "bert")
    weighted = ClassifySpec(class_weights={"x": 3.0}).build()
    for one in (loss, weighted):
        whole = one(step, rows).loss
        parts = sum(one(step, group).loss for group in Cut(20, share=False)(rows))
        assert torch.allclose(whole, parts, atol=1e-4)
    assert not torch.allclose(loss(step, rows).loss, weighted(step, rows).loss)


def quick(folder: Path, kind: str, *, family: str = "bert", out: str = "train", seed: int = 7, **changes):
    given = prepare(folder, kind, family) if not (folder / "data" / "artifact.json").exists() else room_given(folder)
    method = changes.pop("method", METHODS[kind]())
    usual = {"method": method, "adapter": LoraSpec(r=4), "steps": 40, "batch_size": 8, "micro_batch_tokens": 400}
    usual |= {"checkpoint_every": 10, "validate_every": 10, "fast_step": False, "learning_rate": 1e-2}
    events: list[Event] = []
    trained = room.run(spec_of(**(usual | changes)), given, folder / out, events.append, seed=seed)
    return given, trained, events


def room_given(folder: Path):
    from luthier.core.artifacts import Prepared

    return Prepared.read(folder / "data")


def said(given, weights: Path, rows: int = 6):
    card = HeadCard.read(weights)
    test = Split(given.split("test"))
    return head_logits(HeadStep(load_tuned(given.base.folder, weights), card), [test.encoded(i) for i in range(rows)])


@pytest.mark.parametrize("adapter", [LoraSpec(r=4), FullSpec()], ids=lambda spec: spec.name)
@pytest.mark.parametrize("kind", ["label", "spans"])
def test_saved_is_loaded_here_and_in_the_libraries(tmp_path: Path, kind: str, adapter) -> None:
    given, trained, _ = quick(tmp_path, kind, adapter=adapter, steps=6, learning_rate=1e-3)
    test, card = Split(given.split("test")), HeadCard.read(trained.weights)
    ids = torch.tensor([test.encoded(0).ids])
    ours = load_tuned(given.base.folder, trained.weights)
    auto = AutoModelForTokenClassification if kind == "spans" else AutoModelForSequenceClassification
    if adapter.name == "full":
        other = auto.from_pretrained(trained.weights)
        assert other.config.id2label == dict(enumerate(card.labels))
    else:
        other = PeftModel.from_pretrained(
            auto.from_pretrained(given.base.folder, num_labels=card.outputs), trained.weights
        )
    with torch.no_grad():
        assert torch.allclose(ours(input_ids=ids).logits, other.eval()(input_ids=ids).logits, atol=1e-5)
        before = ours(input_ids=ids).logits
        assert torch.allclose(before, merge(ours)(input_ids=ids).logits, atol=1e-5)


def test_the_head_comes_from_the_seed_and_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    drawn = ClassifySpec(start="drawn")
    _, first, _ = quick(tmp_path, "label", steps=4, out="a", method=drawn)
    _, second, _ = quick(tmp_path, "label", steps=4, out="b", method=drawn)
    _, third, _ = quick(tmp_path, "label", steps=4, out="c", method=drawn, seed=8)
    assert same(weights_of(first.folder), weights_of(second.folder))
    assert not same(weights_of(first.folder), weights_of(third.folder))


def test_a_tiny_encoder_learns_each_kind(tmp_path: Path) -> None:
    drawn = {"label": ClassifySpec(start="drawn"), "score": RegressSpec(start="drawn"), "spans": ExtractSpec()}
    for kind, method in drawn.items():
        (tmp_path / kind).mkdir()
        usual = {"adapter": FullSpec(), "steps": 150, "learning_rate": 3e-3 if kind != "score" else 1e-3}
        _, trained, _ = quick(tmp_path / kind, kind, method=method, **usual)
        assert trained.validation_loss < 0.7 * trained.base_validation_loss, kind


def test_only_the_head_and_the_updates_are_kept_with_lora(tmp_path: Path) -> None:
    _, trained, _ = quick(tmp_path, "label", steps=3)
    names = weights_of(trained.folder)
    assert any("classifier.weight" in name for name in names) and any("pooler" in name for name in names)
    assert all("lora_" in name or "classifier" in name or "pooler" in name for name in names)
    assert not any("lora_" in name and "pooler" in name for name in names)


def test_head_modules(tmp_path: Path) -> None:
    expected = {"bert": ["classifier", "pooler"], "roberta": ["classifier"], "llama": ["score"]}
    for family, names in expected.items():
        (tmp_path / family).mkdir()
        step, _, _ = ready(tmp_path / family, "label", family)
        assert head_modules(step.model) == names


def test_temperature_is_found_and_kept(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(4000, 3, generator=draw)
    labels = torch.multinomial((logits / 2.5).softmax(-1), 1, generator=draw)
    assert fitted_temperature(logits, labels) == pytest.approx(2.5, rel=0.1)
    many = torch.bernoulli((logits / 2.5).sigmoid(), generator=draw)
    assert fitted_temperature(logits, many) == pytest.approx(2.5, rel=0.1)

    single = torch.bernoulli((logits[:, :1] / 2.5).sigmoid(), generator=draw)
    assert fitted_temperature(logits[:, :1], single) == pytest.approx(2.5, rel=0.1), "one label that a text may have"

    _, trained, events = quick(tmp_path, "label", steps=30)
    card = HeadCard.read(trained.weights)
    told = [event.message for event in events if "temperature" in event.message]
    # Where all validation rows are right, the colder the likelier: no temperature would be the best.
    assert len(told) == 1 and (card.temperature == 1 and not card.fitted_on) == ("all 12 validation rows" in told[0])
    _, hard, _ = quick(tmp_path, "label", steps=2, learning_rate=1e-5, out="hard", method=ClassifySpec(start="drawn"))
    assert HeadCard.read(hard.weights).fitted_on >= 10 and HeadCard.read(hard.weights).temperature != 1
    _, plain, _ = quick(tmp_path, "label", steps=2, out="uncalibrated", method=ClassifySpec(calibrate=False))
    assert HeadCard.read(plain.weights).temperature == 1


def test_balanced_weights_make_rare_labels_count(tmp_path: Path) -> None:
    from luthier.train.methods.classify.loss import weights_of as class_weights

    card = HeadCard(kind="label", labels=("a", "b", "c"), tokens=9, rows=(6, 2, 0), texts=8)
    weights = class_weights("balanced", card)
    assert weights[:2].tolist() == pytest.approx([8 / 12, 8 / 4])
    assert float(weights[0] * 6 + weights[1] * 2) == pytest.approx(8)
    with pytest.raises(DataError, match="no row has the label `d`"):
        class_weights({"d": 2.0}, card)


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    import shutil

    _, whole, _ = quick(tmp_path, "label", steps=12, checkpoint_every=4)
    expected = weights_of(whole.folder)
    again = tmp_path / "again"
    shutil.copytree(whole.folder, again)
    shutil.rmtree(again / "weights")
    shutil.rmtree(again / "checkpoints" / "step-00000012")
    (again / "artifact.json").unlink()
    _, resumed, events = quick(tmp_path, "label", steps=12, checkpoint_every=4, out="again")
    assert any("going on from step-00000008" in event.message for event in events)
    assert not any("linear fit" in event.message or "head is drawn" in event.message for event in events)
    assert same(expected, weights_of(resumed.folder))


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot tune an encoder") as caught:
        given = prepare(tmp_path, "label")
        room.run(spec_of(method=SftSpec()), given, tmp_path / "x", print, seed=7)
    assert "`classify`, `regress`, `extract`" in str(caught.value)
    (tmp_path / "causal").mkdir()
    with pytest.raises(ModelError, match="needs an encoder"):
        quick(tmp_path / "causal", "spans", family="llama")
    (tmp_path / "one").mkdir()
    rows = [{"text": f"ba de {i} gi {i * i}", "label": "x"} for i in range(30)]
    given = prepare(tmp_path / "one", "label", rows=rows)
    with pytest.raises(DataError, match="nothing to tell apart"):
        room.run(spec_of(method=ClassifySpec(), fast_step=False), given, tmp_path / "y", print, seed=7)


def mean_step(folder: Path, kind: str, family: str, method):
    given = prepare(folder, kind, family)
    train = Split(given.split("train"))
    card = head_card(method, given, train)
    return given, train, HeadStep(load_headed(given.base.folder, card, seed=1), card)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_mean_pooling_is_the_mean_of_the_tokens_outputs(tmp_path: Path, family: str) -> None:
    _, train, step = mean_step(tmp_path, "label", family, ClassifySpec(pooling="mean"))
    rows = [train.encoded(i) for i in range(5)]
    with torch.no_grad():
        pooled = step.logits(rows)
        alone = torch.stack([step.model(input_ids=torch.tensor([row.ids])).logits[0].mean(0) for row in rows])
    assert type(step.model).__name__.endswith("ForTokenClassification") and pooled.shape == (5, 3)
    assert torch.allclose(pooled, alone, atol=1e-5)


def test_mean_pooling_is_chosen_where_the_base_says_so(tmp_path: Path) -> None:
    given, train, step = mean_step(tmp_path, "label", "bert", ClassifySpec())
    assert step.card.pooling == "model"
    (given.base.folder / "1_Pooling").mkdir()
    (given.base.folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert head_card(ClassifySpec(), given, train).pooling == "mean"
    _, trained, _ = quick(tmp_path, "label", steps=4, learning_rate=1e-3)
    assert HeadCard.read(trained.weights).pooling == "mean"
    base = AutoModelForTokenClassification.from_pretrained(given.base.folder, num_labels=3)
    theirs = PeftModel.from_pretrained(base, trained.weights).eval()
    row = Split(given.split("test")).encoded(0)
    with torch.no_grad():
        alone = theirs(input_ids=torch.tensor([row.ids])).logits[0].mean(0)
    assert torch.allclose(alone.double(), torch.from_numpy(said(given, trained.weights)[0]), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "family", "pooling"),
    [
        ("label", "bert", "mean"),
        ("labels", "bert", "mean"),
        ("score", "llama", "model"),
        ("label", "gpt2", "model"),
        ("label", "gpt2", "mean"),
    ],
)
def test_a_linear_start_is_the_linear_fit(tmp_path: Path, kind: str, family: str, pooling: str) -> None:
    method = (RegressSpec if kind == "score" else ClassifySpec)(pooling=pooling)
    _, train, step = mean_step(tmp_path, kind, family, method)
    loss = method.build()
    judged = loss.referenced(step, train, Cut(10_000, share=False), print)
    rows = [judged.encoded(i) for i in range(len(train))]
    with torch.no_grad():
        drawn = float(loss(step, rows).loss)
        start_head(step.model, step.card, method, train, list[Event]().append, seed=3)
        assert float(loss(step, rows).loss) < 0.999 * drawn
    assert output_layer(step.model, step.card).out_features == step.card.outputs


def test_a_head_is_drawn_where_what_it_reads_hardly_differs(tmp_path: Path) -> None:
    # A pooler that was just drawn: fitted weights would be in the thousands, and no step of training would be small.
    _, train, step = mean_step(tmp_path, "label", "bert", ClassifySpec())
    before, events = output_layer(step.model, step.card).weight.detach().clone(), list[Event]()
    start_head(step.model, step.card, ClassifySpec(), train, events.append, seed=3)
    assert torch.equal(before, output_layer(step.model, step.card).weight)
    assert "the head is drawn" in events[-1].message
