"""Snapshots: weights at the end of an epoch, told of before the checkpoint, priced on all validation rows."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from tests.train.made import make_prepared, metrics_of, same, spec_of, train, weights_of

from luthier.core.artifacts import Prepared
from luthier.core.errors import Interrupted
from luthier.core.events import Event
from luthier.examples.store import Split
from luthier.model.adapter import load_tuned
from luthier.model.step import PlainStep
from luthier.train import batches, room
from luthier.train.batches import Watch
from luthier.train.methods.method import Tally
from luthier.train.methods.sft.loss import SftLoss

ROWS, BATCH = 60, 8
"""Epochs end in the middle of steps 8 and 15 and at the end of step 23."""
EPOCH_ENDS = [8, 15, 23]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


def spec(**changes):
    return spec_of(
        **({"steps": None, "epochs": 3.0, "batch_size": BATCH, "snapshots": 2, "keep_best": False} | changes)
    )


def told(events: list[Event]) -> list[dict]:
    return [event.data for event in events if event.kind == "snapshot"]


def names(out) -> list[str]:
    return sorted(path.name for path in (out / "snapshots").iterdir())


def losses(out) -> list[tuple]:
    return [(row["step"], row.get("loss"), row.get("validation_loss")) for row in metrics_of(out)]


def test_the_last_epochs_are_kept_as_models(prepared, tmp_path):
    events: list[Event] = []
    train(spec(), prepared, tmp_path, events)
    assert [one["step"] for one in told(events)] == EPOCH_ENDS
    assert [int(one["epoch"]) for one in told(events)] == [1, 2, 3]
    assert names(tmp_path) == ["step-00000015", "step-00000023"]

    last = told(events)[-1]
    by_step = {row["step"]: row for row in metrics_of(tmp_path)}
    assert {name: last[name] for name in ("loss", "accuracy")} == {n: by_step[23][n] for n in ("loss", "accuracy")}
    kept = load_file(tmp_path / "snapshots" / "step-00000023" / "adapter_model.safetensors")
    assert same(kept, weights_of(tmp_path))

    # What is said of the weights is true of the files.
    model = load_tuned(prepared.base.folder, tmp_path / "snapshots" / "step-00000023")
    rows = Split(prepared.split("validation"))
    tally = Tally()
    with torch.no_grad():
        tally.add(SftLoss()(PlainStep(model), [rows.encoded(i) for i in range(len(rows))]))
    means = tally.means("full_validation_")
    assert {name: last[name] for name in means} == pytest.approx(means, rel=1e-5)
    assert last["validation_loss"] == by_step[23]["validation_loss"] == pytest.approx(last["full_validation_loss"])


def test_full_validation_is_of_all_rows(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "WATCHED_ROWS", 5)
    events: list[Event] = []
    train(spec(epochs=1.0), prepared, tmp_path / "few", events)
    few = told(events)[-1]
    assert few["validation_loss"] != pytest.approx(few["full_validation_loss"], rel=1e-4)
    monkeypatch.undo()
    train(spec(epochs=1.0), prepared, tmp_path / "all", events)
    assert told(events)[-1]["full_validation_loss"] == pytest.approx(few["full_validation_loss"], rel=1e-6)
    assert told(events)[-1]["full_validation_accuracy"] == pytest.approx(few["full_validation_accuracy"])


def test_without_validation_rows_nothing_is_said_of_them(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "Watch", lambda rows, cut, **rest: Watch(_Empty(), cut, **rest))
    events: list[Event] = []
    train(spec(epochs=1.0), prepared, tmp_path, events)
    (one,) = told(events)
    assert one["loss"] > 0 and one["validation_loss"] is one["full_validation_loss"] is None


class _Empty:
    def __len__(self) -> int:
        return 0


def test_no_snapshots_unless_asked_for(prepared, tmp_path):
    events: list[Event] = []
    train(spec(snapshots=0, epochs=1.0), prepared, tmp_path, events)
    assert told(events) == [] and not (tmp_path / "snapshots").exists()


def test_interrupted_run_keeps_a_snapshot_and_goes_on_with_the_same_bits(prepared, tmp_path):
    train(spec(), prepared, tmp_path / "straight")
    events: list[Event] = []

    def interrupt(event: Event) -> None:
        events.append(event)
        if event.kind == "metrics" and event.data["step"] == 10:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "paused"
    with pytest.raises(Interrupted):
        room.run(spec(), prepared, out, interrupt, seed=7)
    assert [one["step"] for one in told(events)] == [8, 10] and names(out) == ["step-00000008", "step-00000010"]
    train(spec(), prepared, out, events)
    assert [one["step"] for one in told(events)] == [8, 10, 15, 23]
    assert same(weights_of(out), weights_of(tmp_path / "straight"))
    losses = [
        [(row["step"], row.get("loss"), row.get("validation_loss")) for row in metrics_of(o)]
        for o in (out, tmp_path / "straight")
    ]
    assert losses[0] == losses[1]


def test_a_snapshot_is_told_of_again_rather_than_never(prepared, tmp_path):
    events: list[Event] = []

    def killed(event: Event) -> None:
        events.append(event)
        if event.kind == "snapshot" and event.data["step"] == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        room.run(spec(), prepared, tmp_path, killed, seed=7)
    train(spec(), prepared, tmp_path, events)
    assert [one["step"] for one in told(events)] == [8, 15, 15, 23]
    first, again = (one for one in told(events) if one["step"] == 15)
    assert first == again


def test_accuracy_is_measured_beside_the_loss(prepared, tmp_path):
    events: list[Event] = []
    train(spec(epochs=1.0, steps=None), prepared, tmp_path, events)
    rows = metrics_of(tmp_path)
    assert all(0 <= row["accuracy"] <= 1 for row in rows[1:])
    assert "validation_accuracy" in rows[0] and all("steps" in row for row in rows)
    watched = [row for row in rows if "validation_loss" in row]
    assert watched[-1]["validation_accuracy"] > watched[0]["validation_accuracy"]
