"""`merged`: one plain model in safetensors with the tuned weights added in."""

import json
import os
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from luthier.core.files import write_atomic
from luthier.export.spec import Form
from luthier.model.adapter import load_tuned, merge
from luthier.model.checks import read_json
from luthier.model.load import load_model, load_tokenizer, quiet
from luthier.model.template import Template

# Everything but the weights and the config of a base model: its words, as they are.
TOKENIZER_FILES = (
    "tokenizer*",
    "vocab*",
    "*.spm",
    "spiece.model",
    "sentencepiece*.model",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "generation_config.json",
)
SETTINGS_FILE = "generation_config.json"
TEMPLATE_FILE = "chat_template.jinja"


def write_merged(base: Path, weights: Path | None, folder: Path) -> None:
    """Write the base with its tuned weights, added in full precision, as one model; all other forms come from it."""
    model = load_model(base) if weights is None else merge(load_tuned(base, weights))
    write_model(model, folder, tokenizer_from=base)


def write_model(model: PreTrainedModel, folder: Path, *, tokenizer_from: Path) -> None:
    """Write weights and config, and the base model's tokenizer files unchanged; the settings name every end.

    A base without a chat template gets the plain one that it was trained with here, so that every engine has it.
    """
    with quiet():
        model.save_pretrained(str(folder))
    for pattern in TOKENIZER_FILES:
        for path in sorted(tokenizer_from.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
    template = Template(load_tokenizer(tokenizer_from))
    _name_all_ends(folder / SETTINGS_FILE, sorted(template.stop_ids))
    if not template.has_chat:
        (folder / TEMPLATE_FILE).write_text(str(template.source), encoding="utf-8")


def _name_all_ends(path: Path, ends: list[int]) -> None:
    """Let the settings name every token that ends an answer: many name the end of the text, and not that of a turn."""
    settings = read_json(path)
    if settings.get("eos_token_id") != (ends if len(ends) > 1 else ends[0]):
        settings["eos_token_id"] = ends if len(ends) > 1 else ends[0]
        write_atomic(path, json.dumps(settings, indent=2) + "\n")


def build(form: Form, merged: Path, out: Path) -> None:
    """Take over the merged model's files; they are never changed, so links do."""
    shutil.copytree(merged, out, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
