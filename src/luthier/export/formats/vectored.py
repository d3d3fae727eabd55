"""A model of vectors in the files of sentence-transformers: `SentenceTransformer(folder)` gives the same vectors."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModel, PreTrainedModel

from luthier.core.errors import ModelError
from luthier.export.formats.merged import TOKENIZER_FILES
from luthier.model.adapter import load_tuned, merge
from luthier.model.checks import kind_of, read_json
from luthier.model.headcard import HeadCard
from luthier.model.headed import POOLERS, vector_size
from luthier.model.load import load_tokenizer, quiet

MODULES = "sentence_transformers.models"
"""Where every version of the library finds its classes."""
MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def write_vectored(base: Path, weights: Path, folder: Path) -> None:
    """Write the updates added into the model, the base's tokenizer, and how a text's vector is made."""
    card = HeadCard.read(weights)
    if card is None:
        raise ModelError("the weights have no `head.json`", where={"folder": weights}, hint="train it again")
    with quiet():
        _with_pooler(merge(load_tuned(base, weights)), base).save_pretrained(str(folder))
    for pattern in TOKENIZER_FILES:
        for path in sorted(base.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
    _write_pad(base, folder)
    for name, content in _files(card, base).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if card.normalize:
        (folder / "2_Normalize").mkdir(exist_ok=True)


def _files(card: HeadCard, base: Path) -> dict[str, object]:
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if card.normalize else [])]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{MODULES}.{kind}"}
        for number, (path, kind) in enumerate(parts)
    ]
    place = "cls_token" if kind_of(base) == "encoder" else "lasttoken"
    mode = "mean_tokens" if card.pooling == "mean" else place
    pooling = {f"pooling_mode_{one}": one == mode for one in MODES}
    similarity = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    return {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": vector_size(base)} | pooling,
        "config_sentence_transformers.json": similarity,
        "sentence_bert_config.json": {"max_seq_length": card.tokens, "do_lower_case": False},
    }


def _with_pooler(model: PreTrainedModel, base: Path) -> PreTrainedModel:
    """Return the model with the base's own pooler: no vector is made by it, but readers look for it."""
    whole, info = AutoModel.from_pretrained(
        base,
        config=model.config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if POOLERS[0] not in dict(whole.named_children()) or info["missing_keys"]:
        return model
    whole.load_state_dict(model.state_dict(), strict=False)
    return whole


def _write_pad(base: Path, folder: Path) -> None:
    """Name a token that fills up short texts where the tokenizer has none: readers ask for one."""
    tokenizer = load_tokenizer(base)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(read_json(path) | {"pad_token": tokenizer.eos_token}, indent=2), encoding="utf-8")
