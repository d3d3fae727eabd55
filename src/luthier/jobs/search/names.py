"""Short names of a space file: the words of Olive's, Hugging Face's and AutoTrain's files for fields of the recipe."""

SHORT_NAMES: dict[str, str] = {
    "learning_rate": "train.learning_rate",
    "lr": "train.learning_rate",
    "batch_size": "train.batch_size",
    "per_device_train_batch_size": "train.batch_size",
    "epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "steps": "train.steps",
    "max_steps": "train.steps",
    "lora_r": "train.adapter.r",
    "r": "train.adapter.r",
    "lora_alpha": "train.adapter.alpha",
    "alpha": "train.adapter.alpha",
    "lora_dropout": "train.adapter.dropout",
    "dropout": "train.adapter.dropout",
    "target_modules": "train.adapter.target_modules",
    "weight_decay": "train.weight_decay",
    "warmup": "train.warmup",
    "warmup_ratio": "train.warmup",
    "schedule": "train.schedule",
    "lr_scheduler_type": "train.schedule",
    "max_grad_norm": "train.max_grad_norm",
    "beta": "train.method.beta",
}
"""What a key that is no path of the recipe stands for."""


def path_of(key: str) -> str:
    """Return the path of the recipe that a key of a space file means."""
    return SHORT_NAMES.get(key, key)
