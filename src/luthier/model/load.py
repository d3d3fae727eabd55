"""Load a checked model folder: tokenizer, and weights in fp32 on the best device, ready to evaluate."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging

from luthier.core.errors import ModelError
from luthier.model.checks import check_folder, context_length, kind_of, read_json
from luthier.model.device import torch_device

__all__ = ["context_length", "load_model", "load_tokenizer"]

# What the library raises on files that are damaged, or do not belong together.
LOAD_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)

CLASSES = {"causal": AutoModelForCausalLM, "encoder": AutoModel, "encoder-decoder": AutoModelForSeq2SeqLM}
"""The class that loads each kind of model."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the folder's tokenizer; padding goes right, and its longest input is the model's context."""
    has_code = "auto_map" in read_json(folder / "tokenizer_config.json")
    kind = PreTrainedTokenizerFast if has_code else AutoTokenizer
    try:
        with quiet():
            tokenizer = kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises no other type
        raise ModelError(
            "the model's tokenizer cannot be loaded", where={"folder": folder}, why=first_line(error)
        ) from error
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = context_length(folder)
    return tokenizer


def load_model(folder: Path) -> PreTrainedModel:
    """Return the folder's model in fp32, in eval mode, on the best device; an encoder comes without any head."""
    check_folder(folder)
    kind = kind_of(folder)
    model, info = read_weights(CLASSES[kind], folder)
    if kind == "encoder":
        # Nothing reads the pooler of an encoder without a head, and many files have none.
        info["missing_keys"] = [name for name in info["missing_keys"] if "pooler" not in name]
    check_complete(info, folder)
    return model.to(torch_device()).eval()


def read_weights(
    kind: Any, folder: Path, config: PreTrainedConfig | None = None
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return a model of one of transformers' Auto classes in fp32, and what its files lacked; never from a pickle."""
    try:
        with quiet():
            model, info = kind.from_pretrained(
                folder,
                config=config or AutoConfig.from_pretrained(folder, local_files_only=True),
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except LOAD_ERRORS as error:
        raise ModelError("the model cannot be loaded", where={"folder": folder}, why=first_line(error)) from error
    return model, info


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's own progress bars and warnings off the terminal; ours say what happens."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def check_complete(info: dict[str, object], source: Path) -> None:
    """Refuse a model with missing weights: the library fills them with random numbers and goes on."""
    for what in ("missing_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info[what])
        if names:
            why = f"{len(names)} tensors of the architecture are not in the files, {names[0]} first"
            raise ModelError("the model's weights are incomplete", where={"model": source}, why=why)


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says went wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
