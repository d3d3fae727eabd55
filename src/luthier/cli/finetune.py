"""`luthier finetune`: Olive's command, with `_` or `-` in the options' names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.olive import QUIET, LogLevel, RemoteCode
from luthier.cli.options import Json, Set

if TYPE_CHECKING:
    from luthier.jobs.doors.finetune import Finetune

TEMPLATE = "Text with {columns}; loss falls on the last one and what follows it."


def _named(name: str, metavar: str, help_: str, *more: str) -> Any:
    """Return an option that is written with `_` or `-`."""
    names = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    return typer.Option(*names, *more, metavar=metavar, help=help_)


Model = Annotated[str | None, _named("model_name_or_path", "MODEL", "The base model.", "-m")]
Output = Annotated[Path | None, _named("output_path", "DIR", "The run's folder.", "-o")]
Modules = Annotated[str | None, _named("target_modules", "A,B,…", "Layers to update.")]
Whole = Annotated[str | None, _named("modules_to_save", "A,B,…", "Layers to train whole.")]
Schedule = Annotated[str | None, _named("lr_scheduler_type", "NAME", "cosine, linear, constant, wsd …")]
AtOnce = Annotated[int | None, _named("per_device_train_batch_size", "N", "Rows, times accumulation, per update.")]
Times = Annotated[int | None, _named("gradient_accumulation_steps", "N", "How often they are added up.")]
Eval = Annotated[int | None, _named("per_device_eval_batch_size", "N", "Answered: it changes no result.")]
Saved = Annotated[int | None, _named("save_total_limit", "N", "Checkpoints kept.")]
Recomputed = Annotated[str | None, _named("gradient_checkpointing", "true|false", "Less memory for more time.")]
Loaders = Annotated[int | None, _named("dataloader_num_workers", "N", "Answered: one batch ahead in any case.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")]
MixedFp16 = Annotated[str | None, _named("fp16", "true|false", "Mixed precision.")]
MixedBf16 = Annotated[str | None, _named("bf16", "true|false", "Mixed precision.")]
Length = Annotated[int | None, _named("max_seq_length", "N", "Longest row in tokens.")]


def finetune(  # noqa: PLR0913 (each is an option of Olive's)
    context: typer.Context,
    model_name_or_path: Model = None,
    output_path: Output = None,
    data_name: Annotated[str | None, _named("data_name", "NAME", "A hub data set, or a file.", "-d")] = None,
    data_files: Annotated[str | None, _named("data_files", "A,B,…", "Data files.")] = None,
    subset: Annotated[str | None, _named("subset", "NAME", "The data set's subset.")] = None,
    train_split: Annotated[str | None, _named("train_split", "SPLIT", "As train[:4096].")] = None,
    eval_split: Annotated[str | None, _named("eval_split", "SPLIT", "The validation rows.")] = None,
    text_template: Annotated[str | None, _named("text_template", "TEXT", TEMPLATE)] = None,
    task_name: Annotated[str | None, _named("task_name", "NAME", "classification, ner …", "--task")] = None,
    method: Annotated[str, _named("method", "NAME", "lora, qlora or another adapter.")] = "lora",
    lora_r: Annotated[int | None, _named("lora_r", "N", "LoRA's rank.")] = None,
    lora_alpha: Annotated[float | None, _named("lora_alpha", "NUMBER", "LoRA's scale.")] = None,
    lora_dropout: Annotated[float | None, _named("lora_dropout", "SHARE", "LoRA's dropout.")] = None,
    target_modules: Modules = None,
    modules_to_save: Whole = None,
    max_steps: Annotated[int | None, _named("max_steps", "N", "Updates.")] = None,
    num_train_epochs: Annotated[float | None, _named("num_train_epochs", "NUMBER", "Passes.")] = None,
    learning_rate: Annotated[float | None, _named("learning_rate", "NUMBER", "Its peak.")] = None,
    lr_scheduler_type: Schedule = None,
    warmup_ratio: Annotated[float | None, _named("warmup_ratio", "SHARE", "Share of warm-up.")] = None,
    weight_decay: Annotated[float | None, _named("weight_decay", "NUMBER", "AdamW's.")] = None,
    max_grad_norm: Annotated[float | None, _named("max_grad_norm", "NUMBER", "Gradients' limit.")] = None,
    optim: Annotated[str | None, _named("optim", "NAME", "adamw_torch, lion_32bit, sgd …")] = None,
    per_device_train_batch_size: AtOnce = None,
    per_device_eval_batch_size: Eval = None,
    gradient_accumulation_steps: Times = None,
    gradient_checkpointing: Recomputed = None,
    fp16: MixedFp16 = None,
    bf16: MixedBf16 = None,
    max_seq_length: Length = None,
    logging_steps: Annotated[int | None, _named("logging_steps", "N", "Answered: all are.")] = None,
    eval_steps: Annotated[int | None, _named("eval_steps", "N", "Between validations.")] = None,
    save_steps: Annotated[int | None, _named("save_steps", "N", "Between checkpoints.")] = None,
    save_total_limit: Saved = None,
    logging_dir: Annotated[str | None, _named("logging_dir", "DIR", "Answered.")] = None,
    report_to: Annotated[str | None, _named("report_to", "NAME", "tensorboard, mlflow, wandb, trackio.")] = None,
    dataloader_num_workers: Loaders = None,
    seed: Annotated[int | None, _named("seed", "N", "Seed of every draw.")] = None,
    log_level: LogLevel = 1,
    trust_remote_code: RemoteCode = False,
    resume: Resume = False,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Olive's finetune: its options become a recipe, which is shown, kept, and run.

    The adapter is in `adapter` of the output folder, the base model in `model`.
    """
    from luthier.cli.translated import run_translated
    from luthier.jobs.doors.finetune import finetune as translate

    translated = translate(_asked(context.params), tuple(set_ or ()))
    run_translated(translated, "finetune", out=output_path, resume=resume, quiet=log_level >= QUIET, as_json=json)


def _asked(given: dict[str, Any]) -> "Finetune":
    """Return what was asked, by the names of the options."""
    from luthier.jobs.doors.finetune import Finetune
    from luthier.jobs.doors.hf import TRAINING
    from luthier.jobs.doors.rows import Rows

    rows = Rows(
        name=given["data_name"],
        files=tuple(filter(None, (given["data_files"] or "").split(","))),
        train=given["train_split"],
        held_out=given["eval_split"],
        template=given["text_template"],
        subset=given["subset"],
    )
    training = {
        name: value for name, value in given.items() if name in TRAINING and value is not None and value is not False
    }
    return Finetune(
        model=given["model_name_or_path"],
        method=given["method"],
        task=given["task_name"],
        rows=rows,
        training=training,
    )
