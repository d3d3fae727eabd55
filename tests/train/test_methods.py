"""What holds for every method, whatever its loss: the house's invariants, on one row of METHODS each."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from tests.train.made import metrics_of, same, train, weights_of
from tests.train.methods import FORMATS, METHODS, Tried, loop_of, spec_for

from luthier.core.artifacts import Prepared, Trained
from luthier.core.errors import DataError
from luthier.model.adapter import adapter_off, load_tuned
from luthier.model.adapters.full import FullSpec
from luthier.model.step import FastStep
from luthier.train import checkpoint
from luthier.train.loop import Loop
from luthier.train.methods.method import Tally
from luthier.train.spec import MethodSpec

TOLD = ("step", "loss", "accuracy", "validation_loss", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class Done:
    """A method, its rows, and a run of it to the end."""

    tried: Tried
    given: Prepared
    trained: Trained

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.trained.folder


@pytest.fixture(scope="module", params=METHODS)
def done(request, tmp_path_factory) -> Done:
    tried, folder = METHODS[request.param], tmp_path_factory.mktemp(request.param)
    given = tried.prepare(folder)
    return Done(tried, given, train(spec_for(tried), given, folder / "whole"))


def told(out: Path) -> list[list[object]]:
    return [[row.get(name) for name in TOLD] for row in metrics_of(out)]


def gradients(loop: Loop, step: int = 1) -> tuple[dict[str, torch.Tensor], Tally]:
    """Return the gradients of a batch, with moved weights, and what was measured."""
    with torch.no_grad():
        for number, weight in enumerate(loop.weights.values()):
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    batch, tally = loop.batches.batch(step), Tally()
    units = sum(map(loop.method.units, batch.micro_batches))
    for part in loop.parts(batch, units=units):
        tally.add(part)
    return {name: weight.grad for name, weight in loop.weights.items()}, tally


def check_same_gradients(a: Loop, b: Loop) -> None:
    (ours, counted), (theirs, recounted) = gradients(a), gradients(b)
    assert counted.units == recounted.units > 1 and counted.sums == pytest.approx(recounted.sums, rel=1e-3, abs=1e-4)
    largest = max(float(grad.abs().max()) for grad in ours.values())
    assert largest > 0
    for name, grad in ours.items():
        assert torch.allclose(grad, theirs[name], rtol=1e-3, atol=1e-3 * largest), name


def test_every_method_has_a_row() -> None:
    assert {type(tried.method) for tried in METHODS.values()} == set(get_args(get_args(MethodSpec)[0]))


def test_resumed_is_uninterrupted_and_the_same_seed_gives_the_same_bits(done: Done, tmp_path: Path) -> None:
    shutil.copytree(done.folder / "checkpoints" / "step-00000003", tmp_path / "checkpoints" / "step-00000003")
    rows = (done.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join(rows[:5]))
    resumed = train(spec_for(done.tried), done.given, tmp_path)
    assert same(weights_of(tmp_path), weights_of(done.folder)) and told(tmp_path) == told(done.folder)
    assert resumed.weights_sha256 == done.trained.weights_sha256
    assert len({row[1] for row in told(tmp_path)[1:]}) == 6, "every step has a loss of its own"


def test_it_begins_as_the_base_and_the_order_of_its_rows_is_pure(done: Done, tmp_path: Path) -> None:
    loop = loop_of(spec_for(done.tried), done.given, tmp_path / "a")
    first = loop.validate()["validation_loss"]
    assert first == pytest.approx(done.trained.base_validation_loss, rel=1e-6)
    with adapter_off(loop.model.model):
        assert loop.validate()["validation_loss"] == pytest.approx(first, rel=1e-4)
    late = loop.batches.batch(5)
    again = loop_of(spec_for(done.tried), done.given, tmp_path / "b").batches
    assert again.batch(5) == late != again.batch(4)
    assert list(again.between(5, 6)) == [late]


def test_every_weight_that_trains_moves_and_nothing_else(done: Done, tmp_path: Path) -> None:
    loop = loop_of(spec_for(done.tried, warmup=0.0), done.given, tmp_path)
    before = {name: tensor.clone() for name, tensor in loop.model.model.state_dict().items()}
    names = {name for name, weight in loop.model.model.named_parameters() if weight.requires_grad}
    assert names == set(loop.weights)
    for step in range(3):
        loop.update(loop.batches.batch(step))
    moved = {name for name, tensor in loop.model.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == names and len(moved) < len(before)


@pytest.mark.parametrize("adapter", [None, FullSpec()], ids=["lora", "full"])
def test_the_cut_into_micro_batches_changes_nothing(done: Done, tmp_path: Path, adapter) -> None:
    changes = {"adapter": adapter} if adapter else {}
    whole, small = (
        loop_of(spec_for(done.tried, micro_batch_tokens=tokens, **changes), done.given, tmp_path / str(tokens))
        for tokens in (4000, 30)
    )
    assert len(whole.batches.batch(1).micro_batches) < len(small.batches.batch(1).micro_batches)
    check_same_gradients(whole, small)


def test_the_fast_step_is_the_plain_one(done: Done, tmp_path: Path) -> None:
    fast, plain = (
        loop_of(spec_for(done.tried, fast_step=fast), done.given, tmp_path / str(fast)) for fast in (True, False)
    )
    assert isinstance(fast.model, FastStep) == done.tried.is_fast and not isinstance(plain.model, FastStep)
    check_same_gradients(fast, plain)


def test_saved_is_loaded_bit_for_bit(done: Done, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = train(spec_for(done.tried, keep_best=False, steps=2), done.given, out)
    kept = load_file(checkpoint.newest_valid(out / "checkpoints") / "weights.safetensors")
    loaded = dict(load_tuned(done.given.base.folder, trained.weights).named_parameters())
    assert all(torch.equal(loaded[name], weight) for name, weight in kept.items())


def test_rows_of_other_formats_are_refused_by_name(done: Done, tmp_path: Path) -> None:
    refused = 0
    for format in FORMATS:
        try:
            loop_of(spec_for(done.tried), done.given.model_copy(update={"format": format}), tmp_path / format)
        except DataError as error:
            assert error.where["field"] == "train.method.name" and f"`{format}`" in error.why and error.hint
            assert f"`{done.tried.method.name}`" not in error.hint
            refused += 1
    assert 0 < refused < len(FORMATS)
