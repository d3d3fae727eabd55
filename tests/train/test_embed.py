"""Vectors: the losses are sentence-transformers' own, and every invariant of training holds for them."""

import shutil
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as theirs
from tests.train.embedded import NOTES_LOSS, prepare
from tests.train.made import metrics_of, same, spec_of, weights_of

from luthier.core.artifacts import Prepared
from luthier.core.errors import CheckpointError, DataError, RecipeError, TrainingError
from luthier.core.events import Event
from luthier.examples.store import Split, write_split
from luthier.export.formats.vectored import write_vectored
from luthier.model.adapter import load_tuned, merge
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.headcard import HeadCard
from luthier.model.headed import load_headed
from luthier.model.vectors import VectorStep, text_vectors
from luthier.train import room
from luthier.train.batches import Cut
from luthier.train.heads import head_card
from luthier.train.methods.embed.own import check_own_loss
from luthier.train.methods.embed.spec import EmbedSpec, LossFile
from luthier.train.whole import backward_whole

LOSSES = {
    "in_batch_negatives": lambda model: theirs.MultipleNegativesRankingLoss(model),
    "contrastive": lambda model: theirs.ContrastiveLoss(model),
    "cosine": lambda model: theirs.CosineSimilarityLoss(model),
    "triplet": lambda model: theirs.TripletLoss(model),
}
CASES = [
    ("in_batch_negatives", "match", "bert", "mean"),
    ("in_batch_negatives", "triplet", "llama", "model"),
    ("contrastive", "binary", "bert", "model"),
    ("cosine", "likeness", "llama", "mean"),
    ("triplet", "triplet", "distilbert", "mean"),
]


def ready(folder: Path, kind: str, family: str, method: EmbedSpec):
    """Return the prepared rows, the step, the loss and some rows with their numbers."""
    given = prepare(folder, kind, family)
    split = Split(given.split("train"))
    card = head_card(method, given, split)
    step, loss = VectorStep(load_headed(given.base.folder, card, seed=1), card), method.build()
    judged = loss.referenced(step, split, Cut(10_000, share=False), print)
    return given, step, loss, [judged.encoded(i) for i in range(8)]


def gradients_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("matryoshka", [(), (32, 16, 8)], ids=["whole", "matryoshka"])
@pytest.mark.parametrize(("name", "kind", "family", "pooling"), CASES)
def test_loss_and_gradients_are_sentence_transformers_own(
    tmp_path: Path, name: str, kind: str, family: str, pooling: str, matryoshka: tuple[int, ...]
) -> None:
    method = EmbedSpec(loss=name, pooling=pooling, matryoshka=matryoshka)
    given, step, loss, rows = ready(tmp_path, kind, family, method)
    weights = tmp_path / "weights"
    step.model.save_pretrained(weights)
    step.card.write(weights)
    (tmp_path / "theirs").mkdir()
    write_vectored(given.base.folder, weights, tmp_path / "theirs")
    model = SentenceTransformer(str(tmp_path / "theirs"), device="cpu")

    mean = loss(step, rows).loss / len(rows)
    mean.backward()
    examples = [Split(given.split("train")).example(i) for i in range(8)]
    features = [model.preprocess(list(texts)) for texts in zip(*(one.texts for one in examples), strict=True)]
    other = LOSSES[name](model)
    other = theirs.MatryoshkaLoss(model, other, matryoshka) if matryoshka else other
    expected = other.train(False)(features, torch.tensor([one.score or 0.0 for one in examples]))
    expected.backward()
    assert torch.allclose(mean, expected, atol=1e-5) and float(mean.detach()) > 0.01
    ours, wanted = gradients_of(step.model), gradients_of(model[0].auto_model)
    assert len(ours) > 5 and ours.keys() == {key for key in wanted if "pooler" not in key}
    assert all(torch.allclose(ours[key], wanted[key], atol=1e-5) for key in ours)


def test_every_field_of_the_method_changes_the_loss(tmp_path: Path) -> None:
    given = prepare(tmp_path, "triplet")
    changed = {
        "loss": EmbedSpec(loss="triplet"),
        "temperature": EmbedSpec(loss="in_batch_negatives", temperature=0.5),
        "margin": EmbedSpec(loss="triplet", margin=1.0),
        "matryoshka": EmbedSpec(loss="in_batch_negatives", matryoshka=(8,)),
        "normalize": EmbedSpec(loss="triplet", normalize=False),
        "pooling": EmbedSpec(loss="in_batch_negatives", pooling="mean"),
    }
    assert changed.keys() == EmbedSpec.model_fields.keys() - {"name"}
    split, found = Split(given.split("train")), {}
    for name, method in {"usual": EmbedSpec(loss="in_batch_negatives"), **changed}.items():
        card = head_card(method, given, split)
        step, loss = VectorStep(load_headed(given.base.folder, card, seed=1), card), method.build()
        judged = loss.referenced(step, split, Cut(10_000, share=False), print)
        with torch.no_grad():
            found[name] = round(float(loss(step, [judged.encoded(i) for i in range(8)]).loss), 4)
    assert len(set(found.values())) == len(found), found


@pytest.mark.parametrize("pooling", ["mean", "model"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_files_give_the_same_vectors_in_sentence_transformers(tmp_path: Path, family: str, pooling: str) -> None:
    given, trained, _ = quick(tmp_path, "match", family=family, method=EmbedSpec(pooling=pooling), steps=3)
    (tmp_path / "out").mkdir()
    write_vectored(given.base.folder, trained.weights, tmp_path / "out")
    test, card = Split(given.split("test")), HeadCard.read(trained.weights)
    step = VectorStep(load_tuned(given.base.folder, trained.weights), card)
    ours = text_vectors(step, [test.encoded(i) for i in range(6)])
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode([test.example(i).text for i in range(6)])
    assert abs(ours - found).max() < 1e-5 and abs((ours**2).sum(1) - 1).max() < 1e-5
    merged = text_vectors(VectorStep(merge(step.model), card), [test.encoded(i) for i in range(6)])
    assert abs(ours - merged).max() < 1e-5


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_gradient_of_a_batch_does_not_depend_on_its_micro_batches(tmp_path: Path, family: str) -> None:
    _, step, loss, rows = ready(tmp_path, "triplet", family, EmbedSpec(loss="in_batch_negatives"))
    found = []
    for tokens in (10_000, 60):
        groups = Cut(tokens, share=False)(rows)
        step.model.zero_grad(set_to_none=True)
        part = backward_whole(loss, step, groups, torch.Tensor.backward, torch.enable_grad)
        found.append((len(groups), float(part.loss.detach()), gradients_of(step.model)))
    (one, loss_of_one, whole), (several, loss_of_several, cached) = found
    assert one == 1 and several > 2 and loss_of_one == pytest.approx(loss_of_several, abs=1e-4)
    assert whole.keys() == cached.keys() and all(torch.allclose(whole[key], cached[key], atol=1e-5) for key in whole)
    # What a sum over micro-batches would be: fewer negatives, another loss.
    apart = sum(float(loss(step, group).loss.detach()) for group in Cut(60, share=False)(rows))
    assert apart < 0.9 * loss_of_one


def quick(folder: Path, kind: str, *, family: str = "bert", out: str = "train", **changes):
    done = Prepared.read(folder / "data")
    given = done or prepare(folder, kind, family)
    method = changes.pop("method", EmbedSpec(loss="in_batch_negatives"))
    method = method if method.loss != "auto" else method.model_copy(update={"loss": "in_batch_negatives"})
    usual = {"method": method, "adapter": LoraSpec(r=4), "steps": 12, "batch_size": 8, "micro_batch_tokens": 100}
    usual |= {"checkpoint_every": 4, "validate_every": 4, "fast_step": False, "learning_rate": 1e-2}
    events: list[Event] = []
    trained = room.run(spec_of(**(usual | changes)), given, folder / out, events.append, seed=7)
    return given, trained, events


@pytest.mark.parametrize("own", [False, True], ids=["named", "own"])
def test_resumed_is_uninterrupted_also_with_dropout_and_cached_gradients(tmp_path: Path, own: bool) -> None:
    (tmp_path / "mine.py").write_text(NOTES_LOSS)
    mine = LossFile(file=str(tmp_path / "mine.py"), class_name="CustomContrastiveLoss", options={"margin": 0.7})
    kind, method = ("binary", EmbedSpec(loss=mine)) if own else ("match", EmbedSpec(loss="in_batch_negatives"))
    changes = {"method": method, "adapter": LoraSpec(r=4, dropout=0.1)}
    _, whole, _ = quick(tmp_path, kind, **changes)
    again = tmp_path / "again"
    shutil.copytree(whole.folder, again)
    shutil.rmtree(again / "weights")
    shutil.rmtree(again / "checkpoints" / "step-00000012")
    (again / "artifact.json").unlink()
    (tmp_path / "mine.py").unlink()
    _, resumed, events = quick(tmp_path, kind, out="again", **changes)
    assert any("going on from step-00000008" in event.message for event in events)
    assert same(weights_of(whole.folder), weights_of(resumed.folder))


def test_training_and_validation_do_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    _, small, _ = quick(tmp_path, "match", out="small", adapter=FullSpec(), learning_rate=1e-3, micro_batch_tokens=40)
    _, large, _ = quick(tmp_path, "match", out="large", adapter=FullSpec(), learning_rate=1e-3, micro_batch_tokens=4000)
    ours, other = weights_of(small.folder), weights_of(large.folder)
    assert all(torch.allclose(ours[name], other[name], atol=1e-3) for name in ours)
    assert small.validation_loss == pytest.approx(large.validation_loss, abs=1e-3)
    assert not any("pooler" in name for name in ours), "nothing is made by the pooler, so that nothing trains it"
    assert small.validation_loss < small.base_validation_loss
    assert "validation_accuracy" in metrics_of(small.folder)[-1]


def test_only_updates_are_kept_with_lora(tmp_path: Path) -> None:
    _, trained, _ = quick(tmp_path, "triplet", family="llama", steps=2, method=EmbedSpec(loss="triplet", margin=2.0))
    assert all("lora_" in name for name in weights_of(trained.folder))
    card = HeadCard.read(trained.weights)
    assert (card.kind, card.pooling, card.normalize) == ("triplet", "model", True)


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`cosine` does not take this data") as caught:
        quick(tmp_path, "match", method=EmbedSpec(loss="cosine"))
    assert "`scored_pairs`" in caught.value.why and "`in_batch_negatives`" in caught.value.hint
    with pytest.raises(RecipeError, match="cannot be cut to 64") as cut:
        quick(tmp_path, "match", method=EmbedSpec(loss="in_batch_negatives", matryoshka=(64, 8)))
    assert cut.value.where["field"] == "train.method.matryoshka" and "32" in cut.value.hint
    (tmp_path / "scored").mkdir()
    given = prepare(tmp_path / "scored", "likeness")
    far = Split(given.split("train")).example(0).model_copy(update={"score": 4.5})
    write_split(given.split("validation"), [(Split(given.split("train")).encoded(0), far)])
    with pytest.raises(DataError, match="score is out of range") as high:
        quick(tmp_path / "scored", "likeness", method=EmbedSpec(loss="contrastive"))
    assert "from 0 to 1" in high.value.why and "4.5" in high.value.why and "rows.jsonl:" in high.value.where["row"]


HEADER = "import torch\nfrom torch import nn\n"
WRONG = (
    "self, output1, output2",
    "self, label, output1, output2",
    "self, a, b, c",
    "self, a, b, label, more",
    "self, a, b, *, label",
)


def own(folder: Path, text: str, name: str = "Mine", **options) -> LossFile:
    (folder / "mine.py").write_text(text)
    return LossFile(file=str(folder / "mine.py"), class_name=name, options=options)


@pytest.mark.parametrize("takes", WRONG)
def test_a_loss_that_takes_something_else_is_refused_before_training(tmp_path: Path, takes: str) -> None:
    loss = own(tmp_path, f"{HEADER}class Mine(nn.Module):\n    def forward({takes}):\n        return 0\n")
    with pytest.raises(RecipeError, match="does not fit these rows") as caught:
        check_own_loss(loss, "likeness", size=8)
    assert (
        "such rows give it (output1, output2, label)" in caught.value.why
        and "def forward(self, output1, output2, label)" in caught.value.hint
    )
    assert caught.value.where["file"].endswith("mine.py:4")


@pytest.mark.parametrize(
    ("body", "what", "line"),
    [
        ("class Mine(nn.Module):\n    def forward(self, a, b, label):\n        return a.nothing\n", "failed", 5),
        (
            "class Mine(nn.Module):\n    def forward(self, a, b, label):\n        return (a - b).square()\n",
            "one num",
            0,
        ),
        ("class Mine(nn.Module):\n    def forward(self, a, b, label):\n        return 1.5\n", "one number", 0),
        ("class Mine(nn.Module):\n    def forward(self, a, b, label):\n        return label.mean()\n", "teaches", 0),
        ("class Mine(nn.Module)\n    pass\n", "cannot be loaded", 3),
        ("import nowhere_to_be_found\n", "cannot be loaded", 3),
        ("raise SystemExit(3)\n", "cannot be loaded", 3),
        ("class Mine:\n    pass\n", "cannot be used", 0),
        ("class Other(nn.Module):\n    pass\n", "cannot be used", 0),
        ("class Mine(nn.Module):\n    def __init__(self, size):\n        super().__init__()\n", "cannot be made", 0),
        ("class Mine(nn.Linear):\n    def __init__(self):\n        super().__init__(2, 2)\n", "weights of its own", 0),
    ],
)
def test_what_is_wrong_in_the_users_file_is_told_with_its_line(tmp_path: Path, body: str, what: str, line: int) -> None:
    with pytest.raises(RecipeError) as caught:
        check_own_loss(own(tmp_path, HEADER + body), "likeness", size=8)
    assert what in caught.value.what and caught.value.why and caught.value.hint
    assert caught.value.where["file"] == f"{tmp_path / 'mine.py'}{f':{line}' if line else ''}"
    assert not (tmp_path / "__pycache__").exists()


def test_options_are_the_constructors(tmp_path: Path) -> None:
    assert check_own_loss(own(tmp_path, NOTES_LOSS, "CustomContrastiveLoss", margin=0.5), "likeness", size=8) is None
    with pytest.raises(RecipeError, match="cannot be made") as caught:
        check_own_loss(own(tmp_path, NOTES_LOSS, "CustomContrastiveLoss", margn=0.5), "likeness", size=8)
    assert "`margn`" in caught.value.why and "`margin`" in caught.value.hint


LATER = (
    HEADER
    + "class Mine(nn.Module):\n    def forward(self, anchor, positive):\n        if {when} and len(anchor) == 8:\n"
    + "            {what}\n        return (anchor - positive).square().mean()\n"
)


@pytest.mark.parametrize(
    ("what", "told", "line"),
    [
        ("return anchor.sum() / 0", "the loss is", None),
        ("return anchor", "not one number", None),
        ("raise ValueError('no more')", "the loss of your own failed", 6),
    ],
)
def test_a_loss_that_breaks_later_names_step_and_rows(tmp_path: Path, what: str, told: str, line: int | None) -> None:
    text = LATER.replace("{what}", what)
    method = EmbedSpec(loss=own(tmp_path, text.replace("{when}", "torch.is_grad_enabled()")))
    check_own_loss(method.loss, "match", size=8)
    with pytest.raises(TrainingError, match=told) as caught:
        quick(tmp_path, "match", method=method)
    assert caught.value.where["step"] == "1" and caught.value.where["rows"].startswith("rows.jsonl:")
    if line:
        assert caught.value.where["file"] == f"{tmp_path / 'mine.py'}:{line}" and "no more" in caught.value.why
        method = EmbedSpec(loss=own(tmp_path, text.replace("{when}", "not torch.is_grad_enabled()")))
        with pytest.raises(TrainingError, match=told) as caught:
            quick(tmp_path, "match", method=method, out="other")
        assert (caught.value.where["step"], caught.value.where["rows"][:23]) == ("0", "those of the validation")


def test_another_file_than_the_plans_is_refused(tmp_path: Path) -> None:
    loss = own(tmp_path, NOTES_LOSS, "CustomContrastiveLoss").model_copy(update={"sha256": "0" * 64})
    with pytest.raises(RecipeError, match="the loss has changed"):
        quick(tmp_path, "binary", method=EmbedSpec(loss=loss))
    given, trained, _ = quick(tmp_path, "binary", out="first", steps=2, method=EmbedSpec(loss=own_again(loss)))
    (trained.folder / "loss" / "mine.py").write_text(NOTES_LOSS + "# changed\n")
    with pytest.raises(CheckpointError, match="copy of the loss has changed"):
        room.run(spec_of(method=EmbedSpec(loss=own_again(loss)), fast_step=False), given, trained.folder, print, seed=7)


def own_again(loss: LossFile) -> LossFile:
    from luthier.core.files import sha256_of

    return loss.model_copy(update={"sha256": sha256_of(Path(loss.file))})
