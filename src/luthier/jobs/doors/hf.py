"""Hugging Face's training arguments, which Olive's and AutoTrain's options are too, as values of a recipe."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from luthier.core.describe import specs_of, tag_of
from luthier.jobs.doors.draft import Draft
from luthier.jobs.doors.olive import REMOTE_CODE
from luthier.recipe import TrackerName
from luthier.train.spec import TrainSpec

SAME: dict[str, str] = {
    "learning_rate": "train.learning_rate",
    "num_train_epochs": "train.epochs",
    "max_steps": "train.steps",
    "weight_decay": "train.weight_decay",
    "warmup_ratio": "train.warmup",
    "max_grad_norm": "train.max_grad_norm",
    "eval_steps": "train.validate_every",
    "save_steps": "train.checkpoint_every",
    "save_total_limit": "train.keep_checkpoints",
    "early_stopping_patience": "train.early_stopping.patience",
    "early_stopping_threshold": "train.early_stopping.min_delta",
    "seed": "seed",
    "r": "train.adapter.r",
    "lora_r": "train.adapter.r",
    "alpha": "train.adapter.alpha",
    "lora_alpha": "train.adapter.alpha",
    "lora_dropout": "train.adapter.dropout",
    "max_seq_length": "data.max_tokens",
    "label_smoothing_factor": "train.method.label_smoothing",
    "neftune_noise_alpha": "train.neftune_noise_alpha",
    "loraplus_lr_ratio": "train.loraplus_ratio",
    "use_dora": "train.adapter.dora",
    "use_rslora": "train.adapter.rslora",
}
"""Options that mean what a field of the recipe means."""

ANSWERED: dict[str, str] = {
    "per_device_eval_batch_size": "no result depends on it: evaluation takes as many rows at once as memory allows",
    "logging_steps": "every step is logged, in the run's train/metrics.jsonl and for TensorBoard",
    "logging_first_step": "every step is logged",
    "logging_strategy": "every step is logged",
    "logging_dir": "the curves are in the run folder: `tensorboard --logdir RUN/tensorboard`",
    "dataloader_num_workers": "the next batch is always prepared while the present one trains",
    "dataloader_pin_memory": "the next batch is always prepared while the present one trains",
    "group_by_length": "rows are packed into micro-batches without pads, so their lengths need no grouping",
    "packing": "rows are always computed without pads, and never see each other",
    "overwrite_output_dir": "a finished run is never overwritten; `--resume` goes on with an unfinished one",
    "remove_unused_columns": "columns that the template does not name are not used, and listed",
    "disable_tqdm": "progress is shown on a terminal only",
}
"""Options that change nothing here, and why."""

SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "warmup_stable_decay": "wsd",
    "reduce_lr_on_plateau": "plateau",
}
LION = {"optimizer.name": "lion", "optimizer.betas": [0.9, 0.999]}
"""The Trainer hands AdamW's betas on to Lion (`trainer_optimizer.py`: `adam_beta1`, `adam_beta2`)."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "lion": LION,
    "lion_32bit": LION,
    "sgd": {"optimizer.name": "sgd", "optimizer.momentum": 0.0},
    "schedule_free_adamw": {"optimizer.name": "schedule_free", "schedule": "constant"},
    "adamw_8bit": {"optimizer.name": "adamw_8bit"},
    "adamw_bnb_8bit": {"optimizer.name": "adamw_8bit"},
}
"""Optimisers of the same steps. Adafactor is none of them: here its steps are relative to the size of the weights."""
ADAMW = ("adamw_torch", "adamw_hf", "adamw_torch_fused", "adamw", "AdamW")
NOT_MIXED = "what this hardware does fast is chosen; `--set train.precision=fp32` forces full precision"
STRATEGIES = ("no", "steps", "epoch", "none", None)
CODE = "trust_remote_code"
BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "none")


def training_options(draft: Draft, options: Mapping[str, Any], *, said: Mapping[str, str] | None = None) -> None:
    """Put training options into the draft; `said` gives the names they have in a file of other words."""
    said = said or {}
    for name, value in options.items():
        if value is None:
            continue
        told = said.get(name, name)
        if name in SAME:
            draft.set(SAME[name], value, told)
        elif name in ANSWERED:
            draft.answer(told, ANSWERED[name])
        elif name == CODE:
            draft.answer(told, REMOTE_CODE)
        elif name in SPECIAL:
            SPECIAL[name](draft, value, told)
        elif name not in BATCH:
            draft.unknown(told, sorted(TRAINING))
    _batch(draft, options, said)


def _batch(draft: Draft, options: Mapping[str, Any], said: Mapping[str, str]) -> None:
    """Set the rows of an update: those at once, times how often they are added up."""
    at_once, times = (options.get(name) for name in BATCH)
    names = [said.get(name, name) for name in BATCH]
    for name, value in zip(names, (at_once, times), strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            draft.refuse(name, f"`{value}` is no number of rows", "write a whole number from 1")
            return
    if at_once is None:
        if times is not None and times != 1:
            draft.answer(
                names[1], "rows per update are chosen by the data (`train.batch_size: auto`), added up as memory asks"
            )
        return
    draft.set("train.batch_size", at_once * (times or 1), names[0])
    if times is not None:
        words = f"{at_once} × {times} = {at_once * times} rows per update"
        draft.answer(names[1], f"{words}; how many are computed at once never changes the result")


def as_bool(draft: Draft, value: Any, name: str) -> bool | None:
    """Return a truth value, or None after refusing what is none."""
    text = str(value).lower()
    if text in TRUE or text in FALSE:
        return text in TRUE
    draft.refuse(name, f"`{value}` is neither true nor false", "write true or false")
    return None


def _gradient_checkpointing(draft: Draft, value: Any, name: str) -> None:
    if (on := as_bool(draft, value, name)) is not None:
        draft.set("train.gradient_checkpointing", on, name)


def _keep_best(draft: Draft, value: Any, name: str) -> None:
    if (on := as_bool(draft, value, name)) is not None:
        draft.set("train.keep_best", on, name)


def _fp16(draft: Draft, value: Any, name: str) -> None:
    on = as_bool(draft, value, name)
    if on:
        draft.set("train.precision", "auto", name)
        draft.answer(
            name, "mixed precision where this hardware is faster with it; `--set train.precision=fp16` forces it"
        )
    elif on is False:
        draft.answer(name, NOT_MIXED)


def _bf16(draft: Draft, value: Any, name: str) -> None:
    on = as_bool(draft, value, name)
    if on:
        draft.set("train.precision", "bf16", name)
    elif on is False:
        draft.answer(name, NOT_MIXED)


def _mixed_precision(draft: Draft, value: Any, name: str) -> None:
    if value == "fp16":
        _fp16(draft, True, name)
    elif value == "bf16":
        _bf16(draft, True, name)
    elif value in ("no", "none", "fp32"):
        draft.set("train.precision", "fp32", name)
    else:
        draft.refuse(name, f"`{value}` is not known", "there is fp16, bf16 and none")


def _optim(draft: Draft, value: Any, name: str) -> None:
    value = draft.text(value, name)
    if value is None:
        return
    if value in ADAMW:
        draft.answer(name, "AdamW, as usual here")
    elif value in OPTIMIZERS:
        for path, leaf in OPTIMIZERS[value].items():
            draft.set(f"train.{path}", leaf, name)
    else:
        draft.refuse(name, f"`{value}` has no translation", f"there is {ADAMW[0]}, {', '.join(OPTIMIZERS)}")


def _schedule(draft: Draft, value: Any, name: str) -> None:
    value = draft.text(value, name)
    if value is None:
        return
    if value in SCHEDULES:
        draft.set("train.schedule", SCHEDULES[value], name)
        if value == "constant":
            # Theirs begins at the full rate; with a warm-up it is called `constant_with_warmup`.
            draft.set("train.warmup", 0.0, name)
    else:
        draft.refuse(name, f"there is no schedule `{value}`", f"there is {', '.join(SCHEDULES)}")


def _report_to(draft: Draft, value: Any, name: str) -> None:
    names = value.split(",") if isinstance(value, str) else draft.texts(value, name)
    others = [one for one in names if one not in ("tensorboard", "none", "all")]
    foreign = [one for one in others if one not in get_args(TrackerName)]
    if foreign:
        draft.refuse(name, f"there is no tracker `{foreign[0]}` here", f"there is {', '.join(get_args(TrackerName))}")
    elif others:
        draft.set("trackers", ["tensorboard", *others], name)
    else:
        draft.answer(name, "TensorBoard's files are in every run folder")


def _strategy(draft: Draft, value: Any, name: str) -> None:
    if value in STRATEGIES:
        draft.answer(name, "validation and checkpoints come after steps; unset, about ten times in a run")
    else:
        draft.refuse(name, f"`{value}` is not known", "there is no, steps and epoch")


def _target_modules(draft: Draft, value: Any, name: str) -> None:
    if value == "all-linear":
        draft.answer(name, "every linear layer but the LM head, as `auto` does")
        return
    if modules := _names(draft, value, name):
        draft.set("train.adapter.target_modules", modules, name)


def _modules_to_save(draft: Draft, value: Any, name: str) -> None:
    if modules := _names(draft, value, name):
        draft.set("train.adapter.modules_to_save", modules, name)


def _names(draft: Draft, value: Any, name: str) -> list[str]:
    """Return names that are written as a list, or with commas between them."""
    return value.split(",") if isinstance(value, str) else draft.texts(value, name)


def _bias(draft: Draft, value: Any, name: str) -> None:
    if value == "none":
        draft.answer(name, "biases stay as they are")
    else:
        draft.refuse(name, "biases are not trained beside LoRA", "leave it out")


def _task_type(draft: Draft, value: Any, name: str) -> None:
    if value in ("CAUSAL_LM", "causal_lm"):
        draft.answer(name, "a model that writes text, as always here")
    else:
        draft.refuse(name, f"`{value}` is no model that writes text", "leave it out")


SPECIAL: dict[str, Callable[[Draft, Any, str], None]] = {
    "gradient_checkpointing": _gradient_checkpointing,
    "load_best_model_at_end": _keep_best,
    "fp16": _fp16,
    "bf16": _bf16,
    "mixed_precision": _mixed_precision,
    "optim": _optim,
    "lr_scheduler_type": _schedule,
    "report_to": _report_to,
    "eval_strategy": _strategy,
    "evaluation_strategy": _strategy,
    "save_strategy": _strategy,
    "target_modules": _target_modules,
    "modules_to_save": _modules_to_save,
    "bias": _bias,
    "task_type": _task_type,
}
"""Options whose value must be looked at."""


TRAINING = frozenset((*SAME, *ANSWERED, *SPECIAL, *BATCH, CODE))
"""Every option that `training_options` knows."""


def adapter(draft: Draft, name: str, option: str) -> None:
    """Set which weights are trained, where this house has the kind."""
    kinds = [tag_of(spec) for spec in specs_of(TrainSpec.model_fields["adapter"].annotation)]
    if name in kinds:
        draft.set("train.adapter.name", name, option)
        return
    draft.refuse(option, f"there is no adapter `{name}` here", f"there is {', '.join(str(kind) for kind in kinds)}")
