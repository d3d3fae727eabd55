"""Every option of a method changes the loss, the head it begins with, or what is kept of it."""

import contextlib
import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.observed.seen import Cases, Change, alike, unseen
from tests.train import embedded
from tests.train.made import metrics_of, train, weights_of
from tests.train.methods import FORMATS, METHODS, spec_for

from luthier.core.artifacts import Base
from luthier.core.errors import ModelError
from luthier.model.headcard import HeadCard
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.dpo.spec import DpoSpec
from luthier.train.methods.embed.spec import EmbedSpec, LossFile
from luthier.train.methods.extract.spec import ExtractSpec
from luthier.train.methods.qa.spec import QaSpec
from luthier.train.methods.regress.spec import RegressSpec
from luthier.train.methods.seq2seq.spec import Seq2SeqSpec
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.spec import MethodSpec, check_base, takes

CASES: Cases = {
    SftSpec: {"label_smoothing": 0.2},
    DpoSpec: {"beta": 0.5},
    ClassifySpec: {"class_weights": {"x": 3.0}, "calibrate": False, "pooling": "model", "start": "drawn"},
    RegressSpec: {"pooling": "mean", "start": "drawn"},
    ExtractSpec: {},
    QaSpec: {"stride": 2, "max_answer_tokens": 1, "no_answer_threshold": 3.0},
    EmbedSpec: {
        "loss": "in_batch_negatives",
        "temperature": Change(0.5, {"loss": "in_batch_negatives"}),
        "margin": 9.0,
        "matryoshka": (8,),
        "normalize": False,
        "pooling": "mean",
    },
    Seq2SeqSpec: {"label_smoothing": 0.2},
    LossFile: {"file": "other.py", "class_name": "Other", "options": {"margin": 0.5}, "sha256": "0" * 64},
}
ROWS = {
    SftSpec: "sft",
    DpoSpec: "dpo",
    ClassifySpec: "classify-mean",
    RegressSpec: "regress",
    ExtractSpec: "extract",
    QaSpec: "qa",
    EmbedSpec: "embed-triplet",
    Seq2SeqSpec: "seq2seq",
}
"""The row of METHODS on which a method is tried."""
TOLD = ("loss", "validation_loss", "grad_norm")


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_every_option_of_a_method_is_seen_in_a_run(kind: type, tmp_path: Path) -> None:
    tried, number = METHODS[ROWS[kind]], itertools.count()
    given = tried.prepare(tmp_path)

    def left_by(method: Any) -> dict[str, Any]:
        out = tmp_path / str(next(number))
        trained = train(spec_for(tried, steps=2, checkpoint_every=9, method=method), given, out)
        weights = {name: tensor.tolist() for name, tensor in weights_of(out).items()}
        losses = [[row.get(name) for name in TOLD] for row in metrics_of(out)]
        return {"weights": weights, "losses": losses, "card": card_of(trained.weights)}

    assert unseen(kind, CASES[kind], left_by, **tried.method.model_dump()) == []


def card_of(weights: Path) -> str | None:
    card = HeadCard.read(weights)
    return card.model_dump_json() if card else None


def test_every_option_of_a_loss_of_ones_own_is_seen_in_a_run(tmp_path: Path) -> None:
    given, number = embedded.prepare(tmp_path, "binary"), itertools.count()
    own = (
        embedded.NOTES_LOSS
        + "\n\nclass Other(CustomContrastiveLoss):\n    def forward(self, output1, output2, label):\n"
    )
    own += "        return 2 * super().forward(output1, output2, label)\n"
    (tmp_path / "own.py").write_text(own)
    (tmp_path / "other.py").write_text(own.replace("margin=1.0", "margin=2.0"))

    def left_by(loss: LossFile) -> Any:
        whole = loss.model_copy(update={"file": str(tmp_path / loss.file)})
        out = tmp_path / str(next(number))
        train(spec_for(METHODS["embed"], steps=2, checkpoint_every=9, method=EmbedSpec(loss=whole)), given, out)
        return [[row.get(name) for name in TOLD] for row in metrics_of(out)]

    usual = {"file": "own.py", "class_name": "CustomContrastiveLoss"}
    assert unseen(LossFile, CASES[LossFile], left_by, **usual) == []


def test_every_method_is_another_one() -> None:
    kinds = get_args(get_args(MethodSpec)[0])
    assert set(kinds) == set(ROWS) == set(CASES) - {LossFile}
    methods = {kind.__name__: METHODS[ROWS[kind]].method for kind in kinds}
    assert alike({name: (type(one.build()), formats_of(one), bases_of(one)) for name, one in methods.items()}) == []


def bases_of(method: Any) -> list[str]:
    """Return the kinds of models that a method tunes."""
    found = []
    for kind in get_args(Base.model_fields["kind"].annotation):
        with contextlib.suppress(ModelError):
            check_base(method, Base(name="one", folder=Path("one"), weights_sha256="w", kind=kind))
            found.append(kind)
    return found


def formats_of(method: Any) -> list[str]:
    """Return the data formats that a method takes."""
    return [name for name in FORMATS if takes(method, name)]
