"""What a model folder must be before anything in it is opened: safetensors, a known kind, no code of its own."""

import json
from pathlib import Path
from typing import Any, Literal

from luthier.core.errors import ModelError

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"

# What published configs really carry. Any other key with an underscore could reach a private switch of the
# library, such as `_attn_implementation_internal`, which fetched and ran code (CVE-2026-4372).
KNOWN_PRIVATE_KEYS = {
    "_name_or_path",
    "_model_name_or_path",
    "_commit_hash",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_flash_attn_2_enabled",
    "_sliding_window_pattern",
    "_from_model_config",
    "_num_labels",
    "_remove_final_layer_norm",
}
KERNEL_KEYS = {"attn_implementation", "_attn_implementation", "experts_implementation"}
MORE_THAN_TEXT = ("vision_config", "audio_config")
HEADED = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
"""How transformers ends the names of models with a head."""
HEADLESS = "Model"
"""How it ends those of models that give states and nothing else."""
ENCODER_DECODERS = ("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "marian")
"""Kinds that read one text and write another; their classes share the way in which a decoder starts."""
RELATIVE = ("t5", "mt5", "umt5")
"""Kinds whose positions are distances, so that only memory bounds a text."""
RELATIVE_CONTEXT = 16_384
FROM_PAD = ("roberta", "camembert", "mpnet", "xlm", "longformer", "data2vec")
"""Kinds that count positions from the pad token's id on, so that the first ones are never used."""


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a model folder; an absent file is an empty one."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError("a file of the model is not JSON", where={"file": path}, why=str(error)) from error
    if not isinstance(value, dict):
        raise ModelError("a file of the model is not a JSON object", where={"file": path})
    return value


def check_folder(folder: Path, *, headed: bool = False) -> None:
    """Refuse a folder that is no language model in safetensors, or that could run code; `headed` allows a head."""
    check_config(folder, headed=headed)
    _check_weights(folder)


def check_config(folder: Path, *, headed: bool = False) -> None:
    """Refuse by its small files alone a model that could run code, or is of no kind that is tuned."""
    if not (folder / "config.json").exists():
        raise _no_config(folder)
    config = read_json(folder / "config.json")
    _check_keys(config, folder)
    _check_architecture(config, folder, headed=headed)
    _check_tokenizer(folder)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files the model loads, in order."""
    index = read_json(folder / INDEX)
    if not index:
        return [folder / WEIGHTS]
    names = sorted(set(_weight_map(index, folder).values()))
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            why = f"it names {name!r}, which is not a safetensors file of this folder"
            raise ModelError("the index of the weights is unsafe", where={"file": folder / INDEX}, why=why)
    return [folder / name for name in names]


def context_length(folder: Path) -> int:
    """Return the most tokens the model can attend to; tokenizers often claim 1e18 and know nothing."""
    config = read_json(folder / "config.json")
    if config.get("model_type") in RELATIVE:
        return RELATIVE_CONTEXT
    for part in (config, config.get("text_config") or {}):
        for key in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
            if isinstance(part.get(key), int) and part[key] > 0:
                return part[key] - _unused_positions(part)
    raise ModelError("the model's config does not say its context length", where={"file": folder / "config.json"})


def kind_of(folder: Path) -> Literal["causal", "encoder", "encoder-decoder"]:
    """Return whether the model of a checked folder goes on with a text, only reads it, or writes another."""
    config = read_json(folder / "config.json")
    if _is_encoder_decoder(config):
        return "encoder-decoder"
    return "encoder" if is_encoder_config(config) else "causal"


def pools_mean(folder: Path) -> bool:
    """Tell whether a model's vectors were trained as the mean over tokens, as sentence-transformers writes it down."""
    return read_json(folder / "1_Pooling" / "config.json").get("pooling_mode_mean_tokens") is True


def is_encoder_config(config: dict[str, Any]) -> bool:
    """Tell an encoder: its kind fills in masked words, it does not write, and its files are not a causal model's."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as BOTH
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as HEADS

    kind, names = config.get("model_type"), config.get("architectures") or []
    writes = config.get("is_decoder") or config.get("is_encoder_decoder") or CAUSAL.get(kind) in names
    return kind in MASKED and kind in HEADS and kind not in BOTH and bool(names) and not writes


def _is_encoder_decoder(config: dict[str, Any]) -> bool:
    """Tell a whole model of one of the kinds tried: neither its decoder alone, nor one with a head."""
    names = [str(name) for name in config.get("architectures") or []]
    part = config.get("is_decoder") or any(name.endswith(("ForCausalLM", "EncoderModel", *HEADED)) for name in names)
    return config.get("model_type") in ENCODER_DECODERS and not part


def _unused_positions(config: dict[str, Any]) -> int:
    counts = str(config.get("model_type", "")).startswith(FROM_PAD)
    return int(config.get("pad_token_id") or 1) + 1 if counts else 0


def _weight_map(index: dict[str, Any], folder: Path) -> dict[str, Any]:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError("the index of the weights has no weight_map", where={"file": folder / INDEX})
    return weight_map


def _no_config(folder: Path) -> ModelError:
    if (folder / "adapter_config.json").exists():
        name = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        hint = f"set `base_model` to the model it belongs to ({name})"
        return ModelError("this folder holds an adapter, not a model", where={"folder": folder}, hint=hint)
    hint = "a model folder has config.json, *.safetensors and tokenizer files"
    return ModelError("this folder is no model: it has no config.json", where={"folder": folder}, hint=hint)


def _check_keys(config: dict[str, Any], folder: Path) -> None:
    where = {"file": folder / "config.json"}
    for key, value in config.items():
        if key.startswith("_") and key not in KNOWN_PRIVATE_KEYS:
            why = "private keys can make the library fetch and run code"
            raise ModelError("the model's config has a key it must not have", where={**where, "key": key}, why=why)
        if key in KERNEL_KEYS and "/" in str(value):
            why = f"it names code of a repository ({value}), which Luthier never runs"
            raise ModelError("the model's config asks for foreign code", where={**where, "key": key}, why=why)
        if isinstance(value, dict):
            _check_keys(value, folder)
    if "quantization_config" in config:
        hint = "take the model's unquantised weights, or a .gguf file"
        raise ModelError("the model's weights are quantised", where=where, hint=hint)


def _check_architecture(config: dict[str, Any], folder: Path, *, headed: bool) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    kind, names = config.get("model_type"), config.get("architectures") or []
    where = {"folder": folder, "kind": f"{', '.join(map(str, names)) or 'unnamed'} (model_type {kind})"}
    if kind not in CONFIG_MAPPING_NAMES:
        if "auto_map" in config:
            raise ModelError("this model needs code from its repository, which Luthier never runs", where=where)
        raise ModelError("this kind of model is not known", where=where, hint="a newer transformers may know it")
    if any(part in config for part in MORE_THAN_TEXT) or CAUSAL.get(kind, "").endswith("ForConditionalGeneration"):
        hint = "take a text-only model of the same family"
        why = "only models of text alone are tuned; this one also takes pictures or sound"
        raise ModelError("this model is more than a language model", where=where, why=why, hint=hint)
    has_head = headed and any(str(name).endswith((*HEADED, HEADLESS)) for name in names)
    if has_head or _is_encoder_decoder(config) or is_encoder_config(config):
        return
    if kind not in CAUSAL or (names and CAUSAL[kind] not in names):
        expected = f"; {kind} would be {CAUSAL[kind]}" if kind in CAUSAL else ""
        why = f"only those, encoders and encoder-decoders ({', '.join(ENCODER_DECODERS)}) are tuned{expected}"
        raise ModelError("this is not a causal language model", where=where, why=why)


def _check_weights(folder: Path) -> None:
    files = weight_files(folder)
    missing = [path.name for path in files if not path.exists()]
    if not missing:
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        hint = "convert them to safetensors where you trust them, or take a model that has safetensors"
        why = f"{pickles[0]} is a pickle, which can run code when it is opened"
        raise ModelError("the model's weights are not safetensors", where={"folder": folder}, why=why, hint=hint)
    raise ModelError("the model's weights are missing", where={"folder": folder}, why=f"no {', '.join(missing[:3])}")


def _check_tokenizer(folder: Path) -> None:
    config = read_json(folder / "tokenizer_config.json")
    _check_keys({key: value for key, value in config.items() if key.startswith("_")}, folder)
    if "auto_map" in config and not (folder / "tokenizer.json").exists():
        raise ModelError(
            "this model's tokenizer needs code from its repository, which Luthier never runs", where={"folder": folder}
        )
