"""The one training loop, for every method and adapter; read it from top to bottom."""

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch

from luthier.core.errors import Interrupted, ResourceError, TrainingError
from luthier.core.events import Emit, Event
from luthier.examples.store import Encoded
from luthier.model.step import StepModel, at_rest
from luthier.train import checkpoint, snapshots
from luthier.train.average import Average
from luthier.train.batches import Batch, Batches, Watch
from luthier.train.checkpoint import Progress, Tensors
from luthier.train.meter import Meter
from luthier.train.methods.method import Method, Part, Tally
from luthier.train.offload import Offload
from luthier.train.optimizers.optimizer import Optimizer
from luthier.train.schedules.rate import learning_rate
from luthier.train.schedules.spec import Plateau
from luthier.train.spec import TrainSpec
from luthier.train.whole import backward_whole, price_whole, whole_of

RECENT_STEPS = 20
SNAPSHOT_ROWS = ("", "validation_", "full_validation_")
"""On which rows a snapshot's metrics are: the batch of its step, the rows that are watched, all validation rows."""


@dataclass
class Loop:
    """Everything a run needs; `run()` trains to the end or to the early stop."""

    spec: TrainSpec
    model: StepModel
    weights: dict[str, torch.nn.Parameter]
    method: Method
    batches: Batches
    validation: Watch
    steps: int
    progress: Progress
    folder: Path
    emit: Emit
    row_names: Callable[[list[int]], str]
    """Where the given training rows come from, for messages."""
    write_weights: Callable[[Path], None]
    """Writes the trained weights into a folder, in the adapter's own format."""
    best: Tensors | None = None
    meter: Meter = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    optimizer: Optimizer = field(init=False)
    average: Average | None = field(init=False)
    offload: Callable[[], AbstractContextManager[None]] = field(init=False)

    def __post_init__(self) -> None:
        """Make the optimiser over the trained weights, and their average where one is asked for."""
        self.optimizer = Optimizer(self.weights, self.spec)
        decay = self.spec.ema_decay
        self.average = None if decay is None else Average(self.weights, decay)
        self.offload = Offload(self.model.model.parameters()) if self.spec.activation_offload else nullcontext
        device = next(iter(self.weights.values())).device.type
        self.scaler = torch.amp.GradScaler(device, enabled=self.spec.precision == "fp16")
        self.meter = Meter(self.folder / "metrics.jsonl", self.emit, steps=self.steps)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint: weights, optimiser, random states and metrics as they were."""
        kept = checkpoint.restore(path, weights=self.weights, optimizer=self.optimizer)
        self.best = kept.get("best")
        if self.average is not None:
            self.average.load(kept["average"])
        if self.progress.scaler:
            self.scaler.load_state_dict(self.progress.scaler)
        self.meter.rewind(self.progress.step)

    def run(self) -> bool:
        """Train; return whether it stopped early."""
        done = self.progress
        if self.out_of_patience():
            return True
        if done.step == 0 and self.validation:
            measured = self.validate()
            done.base_loss = done.best_loss = measured["validation_loss"]
            self.meter.base(measured)

        asked = time.perf_counter()
        with _interrupts() as interrupted:
            for batch in self.batches.between(done.step, self.steps):
                started = time.perf_counter()
                measured = self.update(batch)
                done.step, done.real_tokens = batch.step + 1, done.real_tokens + batch.real_tokens
                done.recent_losses = [*done.recent_losses, measured["loss"]][-RECENT_STEPS:]
                seconds = time.perf_counter() - started
                done.seconds += seconds

                last = done.step == self.steps
                if self.validation and (last or done.step % self.spec.validate_every == 0):
                    measured |= self.validate()
                    self.compare(measured["validation_loss"])
                measured["tokens_per_second"] = batch.real_tokens / seconds
                measured |= {"data_seconds": started - asked, "step_seconds": seconds}
                self.meter.step(done.step, measured, epoch=self.epoch())

                # A snapshot is told of before the checkpoint: after a kill it is told again rather than never.
                stop, paused = self.out_of_patience(), interrupted.is_set()
                ends = stop or last or paused
                snapshot = self.spec.snapshots > 0 and (ends or self.epoch_ended())
                if snapshot:
                    self.keep_snapshot(measured)
                if ends or snapshot or done.step % self.spec.checkpoint_every == 0:
                    self.save()
                if paused:
                    raise Interrupted(
                        f"stopped at step {done.step}; a checkpoint is kept", hint="go on with `--resume`"
                    )
                if stop:
                    return True
                asked = time.perf_counter()
        return False

    def out_of_patience(self) -> bool:
        """Return whether the validation loss has not improved for too long."""
        limit = self.spec.early_stopping
        return limit is not None and self.progress.bad_validations >= limit.patience

    def update(self, batch: Batch) -> dict[str, float]:
        """Do one optimiser step and return what was measured."""
        rate = self.progress.plateau.share * learning_rate(
            batch.step,
            steps=self.steps,
            peak=self.spec.learning_rate,
            warmup=self.spec.warmup,
            schedule=self.spec.schedule,
        )
        self.optimizer.set_rate(rate)

        # Divide by the units of the whole batch, not of each micro-batch:
        # only so does the split into micro-batches not change the result.
        units, tally = sum(map(self.method.units, batch.micro_batches)), Tally()
        with self.told_of(batch.step + 1, lambda: self.row_names(batch.rows)):
            for priced in self.parts(batch, units=units):
                tally.add(priced)
        means = tally.means()

        for part in self.optimizer.parts:
            self.scaler.unscale_(part)
        limit = self.spec.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights.values(), limit))
        overflow = self.scaler.is_enabled() and not math.isfinite(norm)
        if not math.isfinite(means["loss"]) or not (math.isfinite(norm) or overflow):
            raise self.not_finite(batch, means["loss"], norm)

        for part in () if overflow else self.optimizer.parts:
            self.scaler.step(part)
        self.scaler.update()
        self.optimizer.forget()
        if self.average is not None:
            self.average.follow()
        return means | {"learning_rate": rate, "grad_norm": norm}

    def parts(self, batch: Batch, *, units: int) -> Iterator[Part]:
        """Add the gradients of a batch that has so many units, and yield the loss of each part of it."""
        whole = whole_of(self.method)
        if whole is not None:
            yield backward_whole(whole, self.model, batch.micro_batches, self.backward, self.offload)
            return
        for rows in batch.micro_batches:
            with self.offload():
                part = self.method(self.model, rows)
            self.backward(part.loss / max(units, 1))
            yield part

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss."""
        self.scaler.scale(loss).backward()

    @contextmanager
    def told_of(self, step: int, rows: Callable[[], str]) -> Iterator[None]:
        """Say of what goes wrong in which step, and with which rows."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            data = {"fault": "out_of_memory", "step": step}
            self.emit(Event(room="train", kind="note", message="out of memory", data=data))
            raise ResourceError(
                "out of memory",
                where={"step": step, "field": "train.micro_batch_tokens"},
                hint=f"set it below {self.spec.micro_batch_tokens}, or `train.gradient_checkpointing: true`",
            ) from error
        except TrainingError as error:
            where = {"step": step, "rows": rows(), **error.where}
            raise TrainingError(error.what, where=where, why=error.why, hint=error.hint) from error

    def not_finite(self, batch: Batch, loss: float, norm: float) -> TrainingError:
        """Say which batch broke; nothing of it reaches the weights or a checkpoint."""
        kept = checkpoint.newest_valid(self.folder / "checkpoints")
        what, rows = f"the loss is {loss}, the gradient norm {norm}", self.row_names(batch.rows)
        data = {"fault": "not_finite", "step": batch.step + 1, "rows": rows}
        self.emit(Event(room="train", kind="note", message=what, data=data))
        return TrainingError(
            what,
            where={"step": batch.step + 1, "rows": rows},
            why=f"this batch touched no weight; the last good checkpoint is {kept.name if kept else 'the start'}",
            hint="look at these rows, or lower `train.learning_rate`",
        )

    def validate(self) -> dict[str, float]:
        """Return the loss per unit, and what else the method measures, on the first validation rows."""
        tally = Tally()
        with self.kept_weights():
            self.price(self.validation.first, tally)
        return tally.means("validation_")

    @torch.no_grad()
    def price(self, groups: Iterable[list[Encoded]], tally: Tally) -> None:
        """Count the loss of rows, without gradients and without dropout."""
        whole, step = whole_of(self.method), self.progress.step
        with at_rest(self.model.model), self.told_of(step, lambda: "those of the validation after this step"):
            for rows in groups:
                part = price_whole(whole, self.model, self.batches.cut(rows)) if whole else None
                tally.add(part or self.method(self.model, rows))

    def kept_weights(self) -> AbstractContextManager[None]:
        """Return the context in which the weights that are validated and kept stand in the model: often an average."""
        if self.average is not None:
            return self.average.standing()
        return self.optimizer.averaged() if self.optimizer.averages else nullcontext()

    def present(self) -> Tensors:
        """Return copies of the weights that would be kept now."""
        with self.kept_weights():
            return {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}

    def compare(self, loss: float) -> None:
        """Keep the weights when they are the best so far."""
        done = self.progress
        if isinstance(self.spec.schedule, Plateau):
            done.plateau.see(loss, self.spec.schedule)
        least = self.spec.early_stopping.min_delta if self.spec.early_stopping else 0.0
        better = done.best_step == 0 or done.best_loss is None or loss < done.best_loss - least
        done.bad_validations = 0 if better else done.bad_validations + 1
        if better:
            done.best_step, done.best_loss = done.step, loss
            self.best = self.present()

    def keep_snapshot(self, measured: dict[str, float]) -> None:
        """Keep the present weights as a model of their own, priced on all validation rows, and say so."""
        known, tally, step = dict(measured), Tally(), self.progress.step
        with self.kept_weights():
            if self.validation:
                self.price(self.validation.first, tally)
                known |= tally.means("validation_")
                self.price(self.validation.rest(), tally)
                known |= tally.means("full_validation_")
            folder = snapshots.keep(self.folder, step, self.write_weights, most=self.spec.snapshots)
        data = {"step": step, "epoch": self.epoch(), "folder": str(folder)}
        data |= {f"{rows}{name}": known.get(f"{rows}{name}") for rows in SNAPSHOT_ROWS for name in ("loss", "accuracy")}
        self.emit(Event(room="train", kind="snapshot", message=f"the weights of step {step} are kept", data=data))

    def save(self) -> None:
        """Write a checkpoint."""
        self.progress.scaler = self.scaler.state_dict()
        best = self.best if self.spec.keep_best else None
        average = self.average.tensors if self.average is not None else None
        folder = self.folder / "checkpoints"
        checkpoint.save(
            folder,
            self.progress,
            weights=self.weights,
            optimizer=self.optimizer,
            others={"average": average, "best": best},
            keep=self.spec.keep_checkpoints,
        )

    def epoch(self) -> float:
        """Return how many passes over the rows are done."""
        return self.progress.step * self.batches.batch_size / len(self.batches.rows)

    def epoch_ended(self) -> bool:
        """Return whether the last step took the last row of an epoch."""
        rows, seen = len(self.batches.rows), self.progress.step * self.batches.batch_size
        return seen // rows > (seen - self.batches.batch_size) // rows


@contextmanager
def _interrupts() -> Iterator["_Flag"]:
    """Turn the first Ctrl-C into a flag, so that the step ends and a checkpoint is written; the second one breaks."""
    flag = _Flag()
    try:
        before = signal.signal(signal.SIGINT, flag.raise_it)
    except ValueError:  # Not the main thread: there is no Ctrl-C to catch.
        yield flag
        return
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


class _Flag:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        """Return whether it was."""
        return self._set

    def raise_it(self, *_: object) -> None:
        """Remember the first; let the second through."""
        if self._set:
            raise KeyboardInterrupt
        self._set = True
