"""Training on tiny models: it learns, resumes bit for bit after SIGKILL, and refuses what is not finite."""

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.sizes import IN_FULL
from tests.train.made import make_prepared, metrics_of, rows_of, same, spec_of, train, weights_of

from luthier.core.artifacts import Prepared
from luthier.core.errors import CheckpointError, TrainingError
from luthier.core.events import Event
from luthier.core.files import sha256_of
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.train import checkpoint, guards
from luthier.train.batches import Cut, epoch_order, rows_of_step
from luthier.train.schedules.rate import Watched, learning_rate
from luthier.train.schedules.spec import Constant, Cosine, Linear, Plateau, Wsd
from luthier.train.spec import EarlyStopping

KILLS = 100 if IN_FULL else 8


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Prepared:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


def test_training_learns_and_reports(prepared, tmp_path):
    events: list[Event] = []
    trained = train(spec_of(adapter=FullSpec(), learning_rate=1e-2), prepared, tmp_path, events)
    assert trained.validation_loss < 0.6 * trained.base_validation_loss
    assert trained.steps == 24 and trained.stopped == "finished"
    assert trained.trainable_parameters == trained.total_parameters
    rows = metrics_of(tmp_path)
    assert [row["step"] for row in rows] == list(range(25))
    assert {"loss", "grad_norm", "learning_rate", "tokens_per_second", "memory_bytes", "seconds_left"} <= rows[
        -1
    ].keys()
    assert [e.data for e in events if e.kind == "metrics"] == rows
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000021", "step-00000024"]


def test_plain_step_trains_to_the_same_weights(prepared, tmp_path):
    spec = spec_of(adapter=LoraSpec(r=4), steps=5)
    events: list[Event] = []
    train(spec, prepared, tmp_path / "fast")
    train(spec.model_copy(update={"fast_step": False}), prepared, tmp_path / "plain", events)
    assert any("the plain step runs" in event.message for event in events)
    fast, plain = (metrics_of(tmp_path / name)[-1]["loss"] for name in ("fast", "plain"))
    assert fast == pytest.approx(plain, rel=1e-4)


def test_gradient_checkpointing_changes_nothing(prepared, tmp_path):
    spec = spec_of(adapter=LoraSpec(r=4), steps=4)
    train(spec, prepared, tmp_path / "kept")
    train(spec.model_copy(update={"gradient_checkpointing": True}), prepared, tmp_path / "again")
    a, b = weights_of(tmp_path / "kept"), weights_of(tmp_path / "again")
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_trains(prepared, tmp_path, precision):
    trained = train(spec_of(precision=precision, adapter=FullSpec(), learning_rate=1e-2), prepared, tmp_path)
    assert trained.validation_loss < 0.7 * trained.base_validation_loss
    assert all(tensor.dtype == torch.float32 for tensor in weights_of(tmp_path).values())


def test_early_stopping_keeps_the_best_weights(prepared, tmp_path):
    spec = spec_of(
        steps=200, learning_rate=0.3, schedule=Constant(), validate_every=2, early_stopping=EarlyStopping(patience=2)
    )
    trained = train(spec, prepared, tmp_path)
    assert trained.stopped == "early" and trained.steps < 200
    validations = {row["step"]: row["validation_loss"] for row in metrics_of(tmp_path) if row.get("validation_loss")}
    del validations[0]
    assert trained.best_step == min(validations, key=validations.get)
    assert trained.validation_loss == min(validations.values())

    # Killed between the last checkpoint and the artifact, it stays stopped.
    first = weights_of(tmp_path)
    (tmp_path / "artifact.json").unlink()
    again = train(spec, prepared, tmp_path)
    assert (again.stopped, again.steps) == ("early", trained.steps)
    assert same(weights_of(tmp_path), first)


FORKER = """
import os, sys; sys.path.insert(0, {tests!r})
from pathlib import Path
import torch; torch.set_num_threads(1)
from luthier.core.artifacts import Prepared
from made import spec_of, train
given, spec = Prepared.read(Path({prepared!r})), spec_of(snapshots=2)
for line in sys.stdin:
    out = Path(line.strip())
    child = os.fork()
    if child == 0:
        train(spec, given, out)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def snapshots_of(out: Path) -> dict[str, str]:
    """Return the hashes of the kept weights by step."""
    return {path.parent.name: sha256_of(path) for path in (out / "snapshots").glob("*/adapter_model.safetensors")}


def test_sigkill_at_random_moments_then_resume_is_bit_identical(prepared, tmp_path, record_property):
    record_property("claim", "SIGKILL at random moments, resume: weights bit-identical to the uninterrupted run")
    draw = random.Random(11)
    code = FORKER.format(tests=str(Path(__file__).parent), prepared=str(prepared.folder))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    forker = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    def start(out: Path) -> int:
        forker.stdin.write(f"{out}\n")
        forker.stdin.flush()
        return int(forker.stdout.readline())

    start(tmp_path / "warm-up")
    assert int(forker.stdout.readline()) == 0
    started = time.perf_counter()
    start(tmp_path / "straight")
    assert int(forker.stdout.readline()) == 0
    whole_s = time.perf_counter() - started
    reference, rows = weights_of(tmp_path / "straight"), metrics_of(tmp_path / "straight")
    assert sorted(snapshots_of(tmp_path / "straight")) == ["step-00000015", "step-00000024"]

    killed = attempts = 0
    while killed < KILLS and attempts < 4 * KILLS:
        attempts += 1
        out = tmp_path / f"killed{attempts}"
        child = start(out)
        time.sleep(whole_s * draw.uniform(0.2, 0.95))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        killed += int(forker.stdout.readline()) == -signal.SIGKILL
        start(out)
        assert int(forker.stdout.readline()) == 0
        assert same(weights_of(out), reference), f"run {attempts} differs"
        assert snapshots_of(out) == snapshots_of(tmp_path / "straight"), f"run {attempts} kept other snapshots"
        timeless = [[r.get("loss"), r.get("validation_loss"), r["step"]] for r in metrics_of(out)]
        assert timeless == [[r.get("loss"), r.get("validation_loss"), r["step"]] for r in rows]
    forker.stdin.close()
    forker.wait()
    record_property("kills", killed)
    assert killed == KILLS


def test_torn_checkpoint_is_passed_over(prepared, tmp_path):
    spec = spec_of(adapter=LoraSpec(r=4), steps=8)
    train(spec, prepared, tmp_path / "straight")
    torn = tmp_path / "torn"
    train(spec, prepared, torn)
    newest = checkpoint.newest_valid(torn / "checkpoints")
    assert newest.name == "step-00000008"
    content = bytearray((newest / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "weights.safetensors").write_bytes(content)
    assert checkpoint.newest_valid(torn / "checkpoints").name == "step-00000006"
    train(spec, prepared, torn)
    assert same(weights_of(torn), weights_of(tmp_path / "straight"))


def test_checkpoint_of_another_run_is_refused(prepared, tmp_path):
    train(spec_of(steps=4), prepared, tmp_path)
    with pytest.raises(CheckpointError, match="another run"):
        train(spec_of(steps=4, learning_rate=1e-3), prepared, tmp_path)


def test_not_finite_names_step_and_rows_and_touches_nothing(prepared, tmp_path, monkeypatch):
    from luthier.train.methods.sft import loss as module

    calls = {"n": 0}

    def poisoned(self, model, rows):
        calls["n"] += 1
        part = priced(self, model, rows)
        return part if calls["n"] < 12 else replace(part, loss=part.loss * math.nan)

    priced = module.SftLoss.__call__
    monkeypatch.setattr(module.SftLoss, "__call__", poisoned)
    with pytest.raises(TrainingError) as caught:
        train(spec_of(validate_every=100), prepared, tmp_path)
    assert "rows.jsonl:" in caught.value.where["rows"] and int(caught.value.where["step"]) > 1
    kept = checkpoint.newest_valid(tmp_path / "checkpoints")
    assert kept is not None
    assert all(torch.isfinite(t).all() for t in load_file(kept / "weights.safetensors").values())
    assert not (tmp_path / "artifact.json").exists()


def test_unmoved_and_stray_weights_are_found():
    layer = torch.nn.Linear(8, 8)
    layer.bias.requires_grad_(False)
    fingerprint = guards.Fingerprint(layer)
    with pytest.raises(TrainingError, match="did not move"):
        fingerprint.check(layer)
    layer.weight.data += 1
    fingerprint.check(layer)
    layer.bias.data[3] += 1e-7
    with pytest.raises(TrainingError, match="frozen"):
        fingerprint.check(layer)


def test_data_order_is_a_pure_function():
    assert sorted(epoch_order(50, seed=3, epoch=1)) == list(range(50))
    assert list(epoch_order(50, seed=3, epoch=1)) != list(epoch_order(50, seed=3, epoch=2))
    steps = [rows_of_step(i, rows=10, batch_size=4, seed=3) for i in range(5)]
    flat = [row for step in steps for row in step]
    assert sorted(flat[:10]) == sorted(flat[10:20]) == list(range(10))


def test_micro_batches_keep_every_row_within_the_budget():
    rows = [encoded for encoded, _ in rows_of(40, 1)]
    groups = Cut(64, share=True)(rows)
    assert sum(len(group) for group in groups) == 40
    plain = Cut(64, share=False)(rows)
    assert len(groups) < len(plain)
    assert all(sum(len(row.ids) - 1 for row in group) <= 64 for group in plain)


def test_schedules_rise_and_fall():
    rates = {
        kind.name: [learning_rate(i, steps=100, peak=1.0, warmup=0.1, schedule=kind) for i in range(100)]
        for kind in (Cosine(), Linear(), Constant(), Wsd(decay=0.5), Plateau())
    }
    for name, values in rates.items():
        assert values[0] == pytest.approx(0.1) and max(values) == pytest.approx(1.0) and values[9] == pytest.approx(1.0)
        assert values[-1] == 1.0 if name in ("constant", "plateau") else values[-1] < 0.025
    assert rates["wsd"][54] == 1.0 and rates["wsd"][77] == pytest.approx(1 - 22 / 45)


def test_a_plateau_lowers_the_rate_where_the_loss_no_longer_falls():
    watched, schedule = Watched(), Plateau(factor=0.5, patience=2, min_delta=0.1, lowest=0.2)
    shares = []
    for loss in (3.0, 2.0, 1.95, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        watched.see(loss, schedule)
        shares.append(watched.share)
    assert shares == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
