"""Models with a head: transformers' own classes, the head drawn from the seed, and how they are loaded again."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from luthier.core.errors import ModelError
from luthier.model.checks import HEADED, check_folder
from luthier.model.device import torch_device
from luthier.model.headcard import HeadCard
from luthier.model.load import LOAD_ERRORS, check_complete, first_line, load_model, load_tokenizer, quiet, read_weights
from luthier.model.reader import Reader

TASKS = dict(zip(HEADED, ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"), strict=True))
"""What PEFT calls what each class does."""
POOLERS = ("pooler", "sequence_summary")
"""Parts of a base that only a head uses; they are trained and kept whole with it."""


def load_headed(folder: Path, card: HeadCard, *, seed: int) -> PreTrainedModel:
    """Return a base with a new head for the card's outputs, drawn from `seed`; fp32, eval mode, best device.

    A vector needs no head: the base comes alone.
    """
    if card.is_vector:
        return load_vectored(folder)
    model, info = _loaded(folder, card, seed=seed)
    heads = head_modules(model)
    absent = [name for name in info["missing_keys"] if not any(f".{head}." in f".{name}" for head in heads)]
    check_complete({"missing_keys": absent, "mismatched_keys": []}, folder)
    return model


def load_trained_head(folder: Path, card: HeadCard) -> PreTrainedModel:
    """Return a model whose folder holds all of it, head included."""
    if card.is_vector:
        return load_vectored(folder)
    model, info = _loaded(folder, card, seed=0)
    check_complete(info, folder)
    return model


def load_vectored(folder: Path) -> PreTrainedModel:
    """Return a model that gives its last layer's states and nothing else; fp32, eval mode, best device.

    Neither an encoder's pooler nor a causal model's LM head is there: no vector is made by them.
    """
    check_folder(folder, headed=True)
    model, info = read_weights(AutoModel, folder, _quiet_config(folder))
    absent = [name for name in info["missing_keys"] if name.split(".")[0] not in POOLERS]
    check_complete({"missing_keys": absent, "mismatched_keys": info["mismatched_keys"]}, folder)
    if POOLERS[0] in dict(model.named_children()):
        model.pooler = None
    return model.to(torch_device()).eval()


def vector_size(folder: Path) -> int:
    """Return how many numbers a model's states have."""
    return int(AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config().hidden_size)


def load_whole(weights: Path) -> PreTrainedModel:
    """Return the model that a folder of weights holds whole, with its head where it has one."""
    card = HeadCard.read(weights)
    return load_model(weights) if card is None else load_trained_head(weights, card)


def load_base(folder: Path, weights: Path) -> PreTrainedModel:
    """Return the base that an adapter in `weights` belongs on; its head, if any, is the adapter's to bring."""
    card = HeadCard.read(weights)
    return load_model(folder) if card is None else load_headed(folder, card, seed=0)


def task_of(model: PreTrainedModel) -> dict[str, Any]:
    """Return what PEFT must know of a model: its task, and which modules are trained and kept whole."""
    if model.base_model is model:
        return {"task_type": "FEATURE_EXTRACTION"}
    if not is_headed(model):
        return {"task_type": "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"}
    task = next(task for end, task in TASKS.items() if type(model).__name__.endswith(end))
    return {"task_type": task, "modules_to_save": head_modules(model)}


def is_headed(model: PreTrainedModel) -> bool:
    """Tell whether a model's class ends in a head that judges, and not in one that writes."""
    return type(model).__name__.endswith(HEADED)


def head_parts(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Return the modules that only the head needs, by their names in the whole model; none where it has no head."""
    if not is_headed(model):
        return {}
    names, prefix = head_modules(model), f"{model.base_model_prefix}."
    return {name: part for name, part in model.named_modules() if name.removeprefix(prefix) in names}


def head_modules(model: PreTrainedModel) -> list[str]:
    """Return the names of the modules that only the head needs: all beside the base, and the base's pooler."""
    prefix = f"{model.base_model_prefix}."
    beside = [name.split(".")[0] for name, _ in model.named_parameters() if not name.startswith(prefix)]
    inside = [name for name, _ in model.base_model.named_children() if name in POOLERS]
    parts = [name for name in inside if any(True for _ in model.base_model.get_submodule(name).parameters())]
    return list(dict.fromkeys([*beside, *parts]))


def _loaded(folder: Path, card: HeadCard, *, seed: int) -> tuple[PreTrainedModel, dict[str, list[str]]]:
    check_folder(folder, headed=True)
    # The mean of linear outputs of tokens is the linear output of their mean: a class that names tokens pools, too.
    kind = AutoModelForTokenClassification if card.by_token else AutoModelForSequenceClassification
    if card.kind == "quote":
        kind = AutoModelForQuestionAnswering
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, info = kind.from_pretrained(
                folder,
                config=_config(folder, card),
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            if kind is AutoModelForQuestionAnswering:
                info = _with_base(model, info, folder)
    except LOAD_ERRORS as error:
        what = (
            "no head fits on this model" if "Unrecognized configuration" in str(error) else "the model cannot be loaded"
        )
        raise ModelError(what, where={"folder": folder}, why=first_line(error)) from error
    return model.to(torch_device()).eval(), info


def _with_base(model: PreTrainedModel, info: dict[str, list[str]], folder: Path) -> dict[str, list[str]]:
    """Take the base's weights from the folder where the class for questions calls the base by another name.

    Llama's, Qwen's and Mistral's look for `transformer.…` where the files have `model.…`, and would draw all of it.
    """
    prefix = f"{model.base_model_prefix}."
    if not any(name.startswith(prefix) for name in info["missing_keys"]) or not info["unexpected_keys"]:
        return info
    base, found = AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    model.base_model.load_state_dict(base.state_dict())
    beside = [name for name in info["missing_keys"] if not name.startswith(prefix)]
    return {**info, "missing_keys": [*beside, *(prefix + name for name in found["missing_keys"])]}


def _config(folder: Path, card: HeadCard) -> PreTrainedConfig:
    config = _quiet_config(folder)
    config.num_labels = card.outputs
    config.id2label = dict(enumerate(card.labels))
    config.label2id = {label: number for number, label in enumerate(card.labels)}
    config.problem_type = None if card.by_token else card.problem
    return config


def _quiet_config(folder: Path) -> PreTrainedConfig:
    """Return the folder's config without a cache and without dropout, with a pad token."""
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.use_cache = False
    # Causal models find a text's last token by the pads after it.
    if config.pad_token_id is None:
        config.pad_token_id = Reader(load_tokenizer(folder)).pad_id
    # Only an adapter's own dropout is wanted, as with every other method: the same rows always give the same loss.
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    return config
