"""Every field of the training's Specs does something: another value is seen in what a run leaves, or is refused."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.train.made import make_prepared, metrics_of, spec_of, train, weights_of

from luthier.core.artifacts import Prepared
from luthier.core.errors import RecipeError
from luthier.core.events import Event
from luthier.model.adapters.lora import LoraSpec
from luthier.model.fast import decoder
from luthier.model.fast.kernels import Kernels
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.optimizers.optimizer import Optimizer
from luthier.train.optimizers.spec import LionSpec, OptimizerSpec
from luthier.train.schedules.rate import Watched, learning_rate
from luthier.train.schedules.spec import Constant, Plateau, ScheduleSpec
from luthier.train.spec import EarlyStopping, TrainSpec

COMMON = {"steps": 6, "validate_every": 2, "checkpoint_every": 2, "learning_rate": 1e-2, "adapter": LoraSpec(r=4)}
CHANGED: dict[str, Any] = {
    "method": SftSpec(label_smoothing=0.2),
    "adapter": LoraSpec(r=2),
    "epochs": 0.2,
    "steps": 5,
    "batch_size": 3,
    "micro_batch_tokens": 20,
    "learning_rate": 1e-3,
    "optimizer": LionSpec(),
    "schedule": Constant(),
    "warmup": 0.5,
    "weight_decay": 0.5,
    "betas": (0.8, 0.9),
    "layer_decay": 0.5,
    "loraplus_ratio": 4.0,
    "neftune_noise_alpha": 5.0,
    "ema_decay": 0.5,
    "max_grad_norm": 1e-3,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "activation_offload": True,
    "fast_step": False,
    "compile": True,
    "checkpoint_every": 3,
    "keep_checkpoints": 1,
    "snapshots": 1,
    "validate_every": 3,
    "early_stopping": EarlyStopping(patience=1, min_delta=10.0),
    "keep_best": False,
    "threads": 2,
}
"""Another value of each field than in the common run."""
TIMELESS = ("step", "loss", "accuracy", "validation_loss", "learning_rate", "grad_norm")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Prepared:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def called(monkeypatch) -> dict[str, int]:
    """Count what changes speed and memory only, and compile nothing."""
    counts = {"recomputed": 0, "compiled": 0}
    recompute = decoder.checkpoint

    def recomputed(*args, **options):
        counts["recomputed"] += 1
        return recompute(*args, **options)

    def compiled() -> Kernels:
        counts["compiled"] += 1
        return Kernels()

    monkeypatch.setattr(decoder, "checkpoint", recomputed)
    monkeypatch.setattr(Kernels, "compiled", compiled)
    return counts


def left_by(spec: TrainSpec, given: Prepared, out: Path, called: dict[str, int]) -> dict[str, Any]:
    """Return everything that a run leaves and that no clock decides."""
    events: list[Event] = []
    called.update(dict.fromkeys(called, 0))
    trained = train(spec, given, out, events)
    (state, *_) = sorted((out / "checkpoints").glob("*/state.json"))
    return {
        "weights": {name: tensor.tolist() for name, tensor in weights_of(out).items()},
        "rows": [[row.get(name) for name in TIMELESS] for row in metrics_of(out)],
        "files": sorted(str(path.relative_to(out)) for path in out.rglob("*")),
        "notes": [event.message for event in events if event.kind == "note"],
        "end": (trained.steps, trained.best_step, trained.stopped, trained.validation_loss),
        "threads": json.loads(state.read_text())["progress"]["threads"],
        "called": dict(called),
    }


def test_every_field_of_the_training_is_seen_in_what_a_run_leaves(prepared, tmp_path, called):
    assert set(CHANGED) == set(TrainSpec.model_fields), "each field needs a value that is to be seen"
    common = spec_of(**COMMON)
    first = left_by(common, prepared, tmp_path / "first", called)
    assert left_by(common, prepared, tmp_path / "again", called) == first

    unseen = []
    for name, value in CHANGED.items():
        assert getattr(common, name) != value
        changes = {name: value} | ({"steps": None} if name == "epochs" else {})
        changed = common.model_copy(update=changes)
        try:
            if left_by(changed, prepared, tmp_path / name, called) == first:
                unseen.append(name)
        except RecipeError as refused:
            assert refused.where["field"] == f"train.{name}" and name == "activation_offload"
    torch.set_num_threads(1)
    assert unseen == []


OPTIMIZERS = {
    "adamw": {},
    "adafactor": {"beta2_decay": -0.5, "clip": 8.0},
    "lion": {"betas": (0.5, 0.9)},
    "muon": {"momentum": 0.5, "nesterov": False},
    "sgd": {"momentum": 0.5, "nesterov": True},
    "schedule_free": {"weight_rate_power": 0.0},
    "adamw_8bit": {},
}


def moved_by(optimizer: Any) -> torch.Tensor:
    """Return where a few steps of changing size and rate bring a matrix."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(6, 4))
    steps = Optimizer({"layers.0.w": weight}, spec_of(optimizer=optimizer))
    for number in range(1, 6):
        weight.grad = torch.randn(6, 4) / number**2
        steps.set_rate(0.02 * number)
        steps.step()
    return weight.detach()


def test_every_option_of_an_optimiser_changes_its_steps():
    kinds = get_args(get_args(OptimizerSpec)[0])
    assert {kind().name: set(kind.model_fields) - {"name"} for kind in kinds} == {
        name: set(changed) for name, changed in OPTIMIZERS.items()
    }
    for kind in kinds:
        for name, value in OPTIMIZERS[kind().name].items():
            assert not torch.equal(moved_by(kind()), moved_by(kind(**{name: value}))), f"{kind().name}.{name}"


SCHEDULES = {
    "cosine": {},
    "linear": {},
    "constant": {},
    "wsd": {"decay": 0.5, "lowest": 0.5},
    "plateau": {"factor": 0.1, "patience": 1, "min_delta": 1.0, "lowest": 0.6},
}


def rates_of(schedule: Any) -> list[float]:
    """Return the rates of a run whose validation loss falls a little and then stands."""
    watched, rates = Watched(), []
    for step in range(20):
        rates.append(watched.share * learning_rate(step, steps=20, peak=1.0, warmup=0.1, schedule=schedule))
        if isinstance(schedule, Plateau):
            watched.see(max(2.0 - 0.2 * step, 1.2), schedule)
    return rates


def test_every_option_of_a_schedule_changes_its_rates():
    kinds = get_args(get_args(ScheduleSpec)[0])
    assert {kind().name: set(kind.model_fields) - {"name"} for kind in kinds} == {
        name: set(changed) for name, changed in SCHEDULES.items()
    }
    for kind in kinds:
        for name, value in SCHEDULES[kind().name].items():
            assert rates_of(kind()) != rates_of(kind(**{name: value})), f"{kind().name}.{name}"
    assert len({tuple(rates_of(kind())) for kind in kinds}) == len(kinds)
