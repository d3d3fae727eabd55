"""The training room: from tokenised rows to tuned weights."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from luthier.core.artifacts import Prepared, Trained
from luthier.core.errors import DataError, TrainingError
from luthier.core.events import Emit, Event
from luthier.core.files import sha256_of, sha256_of_json, whole_folder
from luthier.examples.store import Encoded, Split
from luthier.model.adapter import causal_lm, parameters
from luthier.model.adapting.by_peft import NAME
from luthier.model.adapting.eva import begin_from_rows
from luthier.model.fast.decoder import why_not
from luthier.model.headed import load_headed
from luthier.model.headstep import HeadStep
from luthier.model.load import context_length, load_model
from luthier.model.seq2seq import is_seq2seq, plain_step, still_dropout
from luthier.model.step import FastStep, StepModel, why_plain
from luthier.train import checkpoint, guards
from luthier.train.batches import Batches, Cut, Watch
from luthier.train.checkpoint import Progress
from luthier.train.head_start import start_head
from luthier.train.heads import head_card, head_step, with_temperature
from luthier.train.loop import Loop
from luthier.train.methods.embed.kept import built
from luthier.train.needs import check_needs
from luthier.train.spec import TrainSpec, check_base, check_data, is_shared
from luthier.train.windows import Windowed

CHECKED_ROWS = 4
"""Rows on which the first loss is compared with the untuned model's."""
SHOWN_ROWS = 256
"""Rows that an adapter begins from, where it does."""
OWN_DROPOUT = f"_dropout.{NAME}"
"""How the names of PEFT's own dropouts end."""


def run(spec: TrainSpec, given: Prepared, out: Path, emit: Emit, *, seed: int) -> Trained:
    """Train the plan's adapter on the prepared rows, from the newest valid checkpoint in `out` if there is one."""
    started = time.perf_counter()
    torch.set_num_threads(spec.threads)
    check_needs(spec)
    check_data(spec.method, given.format)
    check_base(spec.method, given.base)
    train = Split(given.split("train"))
    if not len(train):
        raise DataError(
            "there are no rows to train on",
            where={"folder": given.folder},
            hint="`data/card.json` there lists every row left out, with the reason",
        )
    _check_room(spec, given)
    card = head_card(spec.method, given, train)
    if card is None:
        guards.check_targets(given.target_tokens, given.total_tokens, emit)

    torch.manual_seed(seed)
    adapter = spec.adapter.build()
    base = _on_device(load_headed(given.base.folder, card, seed=seed) if card else load_model(given.base.folder))
    kept = checkpoint.newest_valid(out / "checkpoints")
    # What training begins with is in the checkpoint too, and need not be found again.
    if card and kept is None:
        start_head(base, card, spec.method, train, emit, seed=seed)
    untuned = None if card else untuned_loss(base, spec, train)
    model = adapter.attach(base, seed=seed)
    if spec.adapter.traits.reads_rows and kept is None:
        _show_rows(model, train, emit, seed=seed)
    _quiet_base(model, spec)
    step = head_step(model, card, spec, emit) if card else choose_step(model, spec, train, emit, untuned=untuned)
    fingerprint = guards.Fingerprint(model)

    def write_weights(folder: Path) -> None:
        adapter.save(model, folder, base_model=given.base.name)
        if card:
            card.write(folder)

    out.mkdir(parents=True, exist_ok=True)
    loop = _loop(spec, given, out, emit, seed=seed, step=step, write_weights=write_weights)

    if kept is not None:
        emit(Event(room="train", kind="note", message=f"going on from {kept.name}"))
        loop.resume(kept)
    else:
        loop.meter.rewind(-1)
    early = loop.run()

    if loop.steps > 1:
        fingerprint.check(model)
    _restore_best(loop, spec)
    with whole_folder(out / "weights") as folder:
        write_weights(folder)
        if isinstance(step, HeadStep):
            with_temperature(step, spec, given, loop.method, emit).write(folder)
    return _artifact(spec, given, loop, seconds=time.perf_counter() - started, early=early).write(out)


def _check_room(spec: TrainSpec, given: Prepared) -> None:
    """Raise DataError where the longest row and an adapter's virtual tokens do not fit into the context together."""
    virtual, context = getattr(spec.adapter, "virtual_tokens", 0), context_length(given.base.folder)
    if virtual and given.longest + virtual > context:
        raise DataError(
            f"the longest row leaves no room for {virtual} virtual tokens",
            where={"field": "data.max_tokens"},
            why=f"it has {given.longest:,} tokens, and the model's context holds {context:,}",
            hint=f"set it to {context - virtual}, or fewer `train.adapter.virtual_tokens`",
        )


def _on_device(model: PreTrainedModel) -> PreTrainedModel:
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _quiet_base(model: torch.nn.Module, spec: TrainSpec) -> None:
    """Switch the base's own dropout off; only the adapter's is wanted, and the first loss must be the base's."""
    if spec.gradient_checkpointing:
        causal_lm(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train(bool(spec.gradient_checkpointing) or getattr(spec.adapter, "dropout", 0) > 0)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and not name.endswith(OWN_DROPOUT):
            module.eval()
    if is_seq2seq(model):
        still_dropout(model)


def untuned_loss(base: torch.nn.Module, spec: TrainSpec, train: Split) -> float | None:
    """Return the loss that a fresh adapter must begin with; None where it does not begin as the base."""
    if spec.adapter.traits.start != "base":
        return None
    return guards.untuned_loss(base, _first_rows(train), precision=spec.precision)


def _show_rows(model: torch.nn.Module, train: Split, emit: Emit, *, seed: int) -> None:
    """Let a fresh adapter begin from rows of training, drawn from the seed."""
    drawn = np.random.default_rng(seed).permutation(len(train))[:SHOWN_ROWS].tolist()
    rows = [answer.ids for row in sorted(drawn) for answer in train.encoded(row).answers]
    layers = begin_from_rows(model, rows)
    message = f"{layers} layers' updates begin from what they read of {len(drawn):,} rows of training"
    emit(Event(room="train", kind="note", message=message))


def _first_rows(train: Split) -> list[Encoded]:
    return [answer for i in range(min(CHECKED_ROWS, len(train))) for answer in train.encoded(i).answers]


def choose_step(
    model: torch.nn.Module, spec: TrainSpec, train: Split, emit: Emit, *, untuned: float | None
) -> StepModel:
    """Return the fast step where it gives the right loss on the first rows, else the plain one, and say so."""
    rows = _first_rows(train)
    why = why_plain(model) if spec.fast_step else "the plan asks for it"
    if why is None:
        step, why = _checked_fast_step(model, spec, rows, emit, untuned=untuned)
        if why is None:
            return step
        causal_lm(model).set_attn_implementation("sdpa")

    emit(Event(room="train", kind="note", message=f"the plain step runs: {why}"))
    plain = plain_step(model, precision=spec.precision)
    wrong = guards.check_first_loss(model, plain, rows, precision=spec.precision, untuned=untuned)
    if wrong:
        raise TrainingError("the adapter changes the model before any training", why=wrong)
    return plain


def _checked_fast_step(
    model: torch.nn.Module, spec: TrainSpec, rows: list[Encoded], emit: Emit, *, untuned: float | None
) -> tuple[FastStep, str | None]:
    """Return the fast step, and why it cannot be taken, if so."""
    share = is_shared(spec)
    step = FastStep(model, precision=spec.precision, share=share, compiled=spec.compile)
    if step.decoder is None:
        message = f"the model's own layers run, with shared prefixes and short heads: {why_not(causal_lm(model))}"
        emit(Event(room="train", kind="note", message=message))
    model.eval()
    try:
        why = guards.check_first_loss(model, step, rows, precision=spec.precision, untuned=untuned)
    except RuntimeError as error:
        if not spec.compile:
            raise
        reason = str(error).strip().splitlines()[0]
        emit(Event(room="train", kind="note", message=f"the kernels are not compiled: {reason}"))
        step = FastStep(model, precision=spec.precision, share=share)
        why = guards.check_first_loss(model, step, rows, precision=spec.precision, untuned=untuned)
    _quiet_base(model, spec)
    return step, why


def _loop(  # noqa: PLR0913 (everything a run needs, named)
    spec: TrainSpec,
    given: Prepared,
    out: Path,
    emit: Emit,
    *,
    seed: int,
    step: StepModel,
    write_weights: Callable[[Path], None],
) -> Loop:
    method, train, validation = built(spec.method, out), Split(given.split("train")), Split(given.split("validation"))
    cut = Cut(spec.micro_batch_tokens, share=isinstance(step, FastStep) and step.share)
    rows, watched = (method.referenced(step, split, cut, emit) for split in (train, validation))
    guards.check_method(method, step, [rows.encoded(i) for i in range(min(CHECKED_ROWS, len(rows)))], spec.precision)
    batches = Batches(rows, cut, batch_size=spec.batch_size, seed=seed, noise_alpha=spec.neftune_noise_alpha)
    steps = spec.steps or max(1, math.ceil(spec.epochs * len(rows) / batches.batch_size))
    spec = spec.model_copy(update=_cadence(spec, steps))
    name = guards.identity(spec.model_dump_json(), seed, given.data_sha256, given.base.weights_sha256, steps)
    return Loop(
        spec=spec,
        model=step,
        weights={name: weight for name, weight in step.model.named_parameters() if weight.requires_grad},
        method=method,
        batches=batches,
        validation=Watch(watched, cut, together=batches.batch_size if method.whole else None),
        steps=steps,
        progress=_progress(out, name, spec.threads),
        folder=out,
        emit=emit,
        row_names=_row_names(train, rows.rows_of if isinstance(rows, Windowed) else list),
        write_weights=write_weights,
    )


def _cadence(spec: TrainSpec, steps: int) -> dict[str, int]:
    """Return how often to validate and to checkpoint: a tenth of the run where the plan leaves it open."""
    tenth = max(1, steps // 10)
    validate_every = tenth if spec.validate_every == "auto" else spec.validate_every
    return {"validate_every": validate_every, "checkpoint_every": spec.checkpoint_every or tenth}


def _progress(out: Path, identity: str, threads: int) -> Progress:
    kept = checkpoint.newest_valid(out / "checkpoints")
    return checkpoint.read_progress(kept, identity=identity) if kept else Progress(identity=identity, threads=threads)


def _row_names(train: Split, rows_of: Callable[[list[int]], list[int]]) -> Callable[[list[int]], str]:
    def name(numbers: list[int]) -> str:
        rows = rows_of(numbers)
        examples = [train.example(row) for row in rows[:8]]
        more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
        return ", ".join(f"{Path(example.file).name}:{example.row}" for example in examples) + more

    return name


@torch.no_grad()
def _restore_best(loop: Loop, spec: TrainSpec) -> None:
    kept = loop.best if spec.keep_best else None
    if kept is None:
        kept, loop.progress.best_step = loop.present(), loop.progress.step
    for name, weight in loop.weights.items():
        weight.copy_(kept[name])


def _artifact(spec: TrainSpec, given: Prepared, loop: Loop, *, seconds: float, early: bool) -> Trained:
    done = loop.progress
    folder = loop.folder / "weights"
    best_loss = done.best_loss if loop.validation and spec.keep_best else None
    return Trained(
        folder=loop.folder,
        prepared=given,
        method=spec.method.name,
        adapter=spec.adapter.name,
        steps=done.step,
        best_step=done.best_step,
        train_loss=sum(done.recent_losses) / max(len(done.recent_losses), 1),
        validation_loss=best_loss if loop.validation else None,
        base_validation_loss=done.base_loss,
        trainable_parameters=sum(w.numel() for w in loop.weights.values()),
        total_parameters=parameters(loop.model.model),
        tokens_per_second=done.real_tokens / max(done.seconds, 1e-9),
        stopped="early" if early else "finished",
        weights_sha256=sha256_of_json({f.name: sha256_of(f) for f in sorted(folder.glob("*.safetensors"))}),
        seconds=seconds,
    )
