"""Every field of the training's Specs does something: another value is seen in what a run leaves, or is refused."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.observed.seen import Cases, Change, alike, or_refusal, unseen
from tests.train.made import make_prepared, metrics_of, spec_of, train, weights_of

from luthier.core.artifacts import Prepared
from luthier.core.events import Event
from luthier.model.adapters.lora import LoraSpec
from luthier.model.fast import decoder
from luthier.model.fast.kernels import Kernels
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.needs import check_needs
from luthier.train.optimizers.optimizer import Optimizer
from luthier.train.optimizers.spec import (
    AdafactorSpec,
    AdamW8bitSpec,
    AdamWSpec,
    LionSpec,
    MuonSpec,
    OptimizerSpec,
    ScheduleFreeSpec,
    SgdSpec,
)
from luthier.train.schedules.rate import Watched, learning_rate
from luthier.train.schedules.spec import Constant, Cosine, Linear, Plateau, ScheduleSpec, Wsd
from luthier.train.spec import EarlyStopping, TrainSpec

COMMON = {"steps": 6, "validate_every": 2, "checkpoint_every": 2, "learning_rate": 1e-2, "adapter": LoraSpec(r=4)}
PATIENT = {"patience": 2, "min_delta": 10.0}
CASES: Cases = {
    TrainSpec: {
        "method": SftSpec(label_smoothing=0.2),
        "adapter": LoraSpec(r=2),
        "epochs": Change(0.2, {"steps": None, "epochs": 0.3}),
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
        "keep_best": Change(False, {"learning_rate": 0.3}),
        "threads": 2,
    },
    EarlyStopping: {"patience": 1, "min_delta": Change(0.0, {"patience": 1, "min_delta": 10.0})},
    AdamWSpec: {},
    AdafactorSpec: {"beta2_decay": -0.5, "clip": 8.0},
    LionSpec: {"betas": (0.5, 0.9)},
    MuonSpec: {"momentum": 0.5, "nesterov": False},
    SgdSpec: {"momentum": 0.5, "nesterov": True},
    ScheduleFreeSpec: {"weight_rate_power": 0.0},
    AdamW8bitSpec: {},
    Cosine: {},
    Linear: {},
    Constant: {},
    Wsd: {"decay": 0.5, "lowest": 0.5},
    Plateau: {"factor": 0.1, "patience": 1, "min_delta": 1.0, "lowest": 0.6},
}
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


@pytest.fixture
def left_by(prepared: Prepared, tmp_path: Path, called: dict[str, int]) -> Iterator[Callable[[TrainSpec], Any]]:
    """Return what trains, and tells everything that a run leaves and no clock decides."""
    number = itertools.count()

    def left(spec: TrainSpec) -> dict[str, Any]:
        events: list[Event] = []
        called.update(dict.fromkeys(called, 0))
        out = tmp_path / str(next(number))
        trained = train(spec, prepared, out, events)
        return {
            "weights": {name: tensor.tolist() for name, tensor in weights_of(out).items()},
            "rows": [[row.get(name) for name in TIMELESS] for row in metrics_of(out)],
            "files": sorted(str(path.relative_to(out)) for path in out.rglob("*")),
            "notes": [event.message for event in events if event.kind == "note"],
            "end": (trained.steps, trained.best_step, trained.stopped, trained.validation_loss),
            "threads": torch.get_num_threads(),
            "called": dict(called),
        }

    yield left
    torch.set_num_threads(1)


def test_every_field_of_the_training_is_seen_in_what_a_run_leaves(left_by) -> None:
    common = spec_of(**COMMON)
    assert left_by(common) == left_by(common)
    assert unseen(TrainSpec, CASES[TrainSpec], left_by, **common.model_dump()) == []


def test_every_field_of_early_stopping_is_seen_in_when_a_run_ends(left_by) -> None:
    def end_of(stopping: EarlyStopping) -> Any:
        return left_by(spec_of(**COMMON, early_stopping=stopping))["end"]

    assert unseen(EarlyStopping, CASES[EarlyStopping], end_of, **PATIENT) == []


def moved_by(optimizer: Any) -> list[list[float]]:
    """Return where a few steps of changing size and rate bring a matrix."""
    torch.manual_seed(0)
    weight, plan = torch.nn.Parameter(torch.randn(6, 4)), spec_of(optimizer=optimizer)
    check_needs(plan)
    steps = Optimizer({"layers.0.w": weight}, plan)
    for number in range(1, 6):
        weight.grad = torch.randn(6, 4) / number**2
        steps.set_rate(0.02 * number)
        steps.step()
    return weight.tolist()


def test_every_option_of_an_optimiser_changes_its_steps() -> None:
    kinds = get_args(get_args(OptimizerSpec)[0])
    assert [name for kind in kinds for name in unseen(kind, CASES[kind], moved_by)] == []
    assert alike({kind().name: or_refusal(moved_by, kind()) for kind in kinds}) == []


def rates_of(schedule: Any) -> list[float]:
    """Return the rates of a run whose validation loss falls a little and then stands."""
    watched, rates = Watched(), []
    for step in range(20):
        rates.append(watched.share * learning_rate(step, steps=20, peak=1.0, warmup=0.1, schedule=schedule))
        if isinstance(schedule, Plateau):
            watched.see(max(2.0 - 0.2 * step, 1.2), schedule)
    return rates


def test_every_option_of_a_schedule_changes_its_rates() -> None:
    kinds = get_args(get_args(ScheduleSpec)[0])
    assert [name for kind in kinds for name in unseen(kind, CASES[kind], rates_of)] == []
    assert alike({kind().name: rates_of(kind()) for kind in kinds}) == []
