"""Every option of a method changes the loss, the head it begins with, or what is kept of it."""

import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.observed.seen import Cases, alike, unseen
from tests.train.made import metrics_of, train, weights_of
from tests.train.methods import FORMATS, METHODS, spec_for

from luthier.model.headcard import HeadCard
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.dpo.spec import DpoSpec
from luthier.train.methods.extract.spec import ExtractSpec
from luthier.train.methods.regress.spec import RegressSpec
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.spec import MethodSpec, takes

CASES: Cases = {
    SftSpec: {"label_smoothing": 0.2},
    DpoSpec: {"beta": 0.5},
    ClassifySpec: {"class_weights": {"x": 3.0}, "calibrate": False, "pooling": "model", "start": "drawn"},
    RegressSpec: {"pooling": "mean", "start": "drawn"},
    ExtractSpec: {},
}
ROWS = {SftSpec: "sft", DpoSpec: "dpo", ClassifySpec: "classify-mean", RegressSpec: "regress", ExtractSpec: "extract"}
"""The row of METHODS on which a method is tried."""
TOLD = ("loss", "validation_loss", "grad_norm")


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_every_option_of_a_method_is_seen_in_a_run(kind: type, tmp_path: Path) -> None:
    tried, number = METHODS[ROWS[kind]], itertools.count()
    given = tried.prepare(tmp_path)

    def left_by(method: Any) -> dict[str, Any]:
        out = tmp_path / str(next(number))
        trained = train(spec_for(tried, steps=2, checkpoint_every=9, method=method), given, out)
        weights = {name: tensor.tolist() for name, tensor in weights_of(out).items()}
        losses = [[row.get(name) for name in TOLD] for row in metrics_of(out)]
        return {"weights": weights, "losses": losses, "temperature": temperature_of(trained.weights)}

    assert unseen(kind, CASES[kind], left_by, **tried.method.model_dump()) == []


def temperature_of(weights: Path) -> float | None:
    card = HeadCard.read(weights)
    return card.temperature if card else None


def test_every_method_is_another_one() -> None:
    kinds = get_args(get_args(MethodSpec)[0])
    assert set(kinds) == set(CASES) == set(ROWS)
    assert alike({kind().name: (type(kind().build()), formats_of(kind())) for kind in kinds}) == []


def formats_of(method: Any) -> list[str]:
    """Return the data formats that a method takes."""
    return [name for name in FORMATS if takes(method, name)]
