"""Configs as the hub publishes them pass; what could fetch code, or is more than text, does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.core.errors import ModelError
from luthier.model.checks import check_config

LLAMA = {
    "_name_or_path": "meta-llama/Llama-3.2-1B",
    "_attn_implementation_autoset": True,
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 896,
    "initializer_range": 0.02,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3 = QWEN2 | {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "rope_scaling": None,
    "sliding_window": None,
    "transformers_version": "4.51.0",
}
GEMMA3 = {
    "_sliding_window_pattern": 6,
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "cache_implementation": "hybrid",
    "eos_token_id": [1, 106],
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "transformers_version": "4.50.0.dev0",
    "vocab_size": 262144,
}
PHI3 = {
    "_name_or_path": "Phi-3-mini-4k-instruct",
    "architectures": ["Phi3ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "attention_dropout": 0.0,
    "embd_pdrop": 0.0,
    "eos_token_id": 32000,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "resid_pdrop": 0.0,
    "rope_scaling": None,
    "sliding_window": 2047,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.2",
    "vocab_size": 32064,
}
GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "_num_labels": 1,
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_type": "cls_index",
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}
OPT = {
    "_name_or_path": "facebook/opt-125m",
    "_remove_final_layer_norm": False,
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "max_position_embeddings": 2048,
}
PUBLISHED = {
    "Llama": LLAMA,
    "Llama, attention named": LLAMA | {"_attn_implementation": "eager"},
    "Qwen 2": QWEN2,
    "Qwen 3": QWEN3,
    "Gemma 3": GEMMA3,
    "Phi 3": PHI3,
    "GPT-2": GPT2,
    "OPT": OPT,
}
GEMMA3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {"hidden_size": 2560, "model_type": "gemma3_text", "sliding_window": 1024},
    "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}
CODE = {"AutoConfig": "configuration_new.NewConfig", "AutoModelForCausalLM": "modeling_new.NewForCausalLM"}
REFUSED = {
    "private switch": (LLAMA | {"_attn_implementation_internal": "org/kernel"}, "must not have"),
    "private switch for experts": (LLAMA | {"_experts_implementation_internal": "org/kernel"}, "must not have"),
    "unknown private key": (LLAMA | {"_new_switch": True}, "must not have"),
    "kernel": (LLAMA | {"_attn_implementation": "org/kernel"}, "foreign code"),
    "kernel of a part": (LLAMA | {"attn_implementation": {"text_config": "org/kernel@main:f"}}, "foreign code"),
    "kernel in a part": (GEMMA3_4B | {"text_config": {"_attn_implementation": "org/kernel"}}, "foreign code"),
    "code for an unknown kind": (PHI3 | {"model_type": "phi3small", "auto_map": CODE}, "needs code from its"),
    "Gemma 3 with pictures": (GEMMA3_4B, "takes pictures or sound"),
    "Gemma 3 with pictures, unnamed": ({"model_type": "gemma3"}, "takes pictures or sound"),
}


def written(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", PUBLISHED.values(), ids=PUBLISHED)
def test_published_configs_pass(config: dict[str, Any], tmp_path: Path) -> None:
    check_config(written(tmp_path, config))


@pytest.mark.parametrize(("config", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_unsafe_or_more_than_text_is_refused_by_name(
    config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        check_config(written(tmp_path, config))
    assert words in str(caught.value)
    assert config["model_type"] in str(caught.value) or "key" in caught.value.where
