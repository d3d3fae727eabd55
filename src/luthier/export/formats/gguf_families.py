"""What llama.cpp has to know of a model's config, and how each tensor of a family is laid out in its files.

Everything that llama.cpp computes in another way than transformers is refused here by name, since it would go on
without a word.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, RopeScalingType
from transformers import PreTrainedConfig

from luthier.core.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

Tensor = torch.Tensor
SILU = ("silu", "swish")
TANH_GELU = ("gelu_pytorch_tanh", "gelu_new")
GEMMA_27B_LAYERS = 62
"""The one Gemma 3 whose attention llama.cpp scales by the width of the whole layer."""


@dataclass(frozen=True)
class Family:
    """One architecture of llama.cpp."""

    arch: MODEL_ARCH
    activations: tuple[str, ...]
    change: Callable[[str, Tensor, PreTrainedConfig], Tensor]
    """From a tensor of transformers' to llama.cpp's; the second one's shape is that of `shape`."""
    describe: Callable[[GGUFWriter, PreTrainedConfig], None]
    transposes: tuple[str, ...] = ()
    """Ends of the names of weights that transformers keeps as (in, out)."""
    skips: tuple[str, ...] = ()
    """Ends of the names of buffers, not weights."""

    @property
    def name(self) -> str:
        """The architecture as llama.cpp calls it."""
        return MODEL_ARCH_NAMES[self.arch]

    def is_transposed(self, name: str) -> bool:
        """Say whether a weight is kept as (in, out)."""
        return name.endswith(self.transposes) if self.transposes else False


def family_of(config: PreTrainedConfig, folder: Path) -> Family:
    """Return the family of a model; raise ModelError for one that llama.cpp would not compute in the same way."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        why, hint = f"its architecture is `{config.model_type}`", f"exported are {', '.join(FAMILIES)}"
        raise ModelError("this kind of model cannot be written as GGUF", where={"model": folder}, why=why, hint=hint)
    trouble = _trouble(config, family)
    if trouble:
        hint = "export it as `merged`, which keeps transformers' own arithmetic"
        raise ModelError(
            "llama.cpp would not compute this model alike", where={"model": folder}, why=trouble, hint=hint
        )
    return family


def context_of(config: PreTrainedConfig) -> int:
    """Return the longest context in which llama.cpp attends as transformers does.

    Of these families it slides a window in Gemma's only; the others are exported up to their window's length.
    """
    longest = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    slides = config.model_type in ("mistral", "phi3") or getattr(config, "use_sliding_window", False)
    return min(longest, int(window)) if slides and window else longest


def rope_factors(config: PreTrainedConfig) -> "np.ndarray[Any, np.dtype[np.float32]] | None":
    """Return what each rotary frequency is divided by, for Llama 3.1's scaling; None for all others."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    size = head_dim(config)
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    return (plain / scaled).float().numpy()


def head_dim(config: PreTrainedConfig) -> int:
    """Return the width of an attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the rotary settings, of the layers with full attention where these have their own."""
    given = getattr(config, "rope_parameters", None) or {}
    return dict(given.get("full_attention", given))


def _trouble(config: PreTrainedConfig, family: Family) -> str | None:
    activation = str(
        getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None) or config.activation_function
    )
    if activation not in family.activations:
        return f"its activation is `{activation}`, and llama.cpp computes `{family.activations[0]}`"
    kind = _rope(config).get("rope_type", "default")
    if kind not in ("default", "linear") and not (kind == "llama3" and config.model_type == "llama"):
        return f"its positions are scaled by `{kind}`"
    if config.model_type == "gemma3_text":
        return _gemma_trouble(config)
    if config.model_type == "gpt2" and (
        config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention
    ):
        return "its attention is not GPT-2's"
    return None


def _gemma_trouble(config: PreTrainedConfig) -> str | None:
    if config.query_pre_attn_scalar != head_dim(config) and config.num_hidden_layers != GEMMA_27B_LAYERS:
        return f"its attention is scaled by {config.query_pre_attn_scalar} and its heads are {head_dim(config)} wide"
    if config.attn_logit_softcapping:
        return "its attention is capped"
    local = config.rope_parameters["sliding_attention"]
    if local.get("rope_type", "default") != "default" or local["rope_theta"] != 10_000:
        return "the positions of its layers with a window are not encoded with a base of 10,000"
    return None if window_period(config) else "its layers with full attention do not come at equal distances"


def window_period(config: PreTrainedConfig) -> int | None:
    """Return n where each n-th layer attends to everything and the others to a window; None for other orders."""
    full = [kind == "full_attention" for kind in config.layer_types]
    period = full.index(True) + 1 if any(full) else len(full) + 1
    return period if all(one == ((layer + 1) % period == 0) for layer, one in enumerate(full)) else None


def _describe_llama_like(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    rope, size = _rope(config), head_dim(config)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(int(size * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def _describe_phi3(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    _describe_llama_like(writer, config)
    writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)


def _describe_gemma(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    _describe_llama_like(writer, config)
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern(window_period(config))
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _describe_gpt2(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _as_it_is(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    return tensor


def _interleaved(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    """Reorder queries' and keys' rows: transformers rotates halves of a head, llama.cpp neighbouring pairs."""
    part = re.search(r"\.self_attn\.([qk])_proj\.(weight|bias)$", name)
    if part is None:
        return tensor
    heads = config.num_attention_heads if part.group(1) == "q" else config.num_key_value_heads
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)


def _norms_plus_one(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    """Write a norm as what it multiplies by: Gemma keeps the difference from one."""
    return tensor + 1 if name.endswith("norm.weight") else tensor


FAMILIES = {
    "llama": Family(MODEL_ARCH.LLAMA, SILU, _interleaved, _describe_llama_like),
    "mistral": Family(MODEL_ARCH.LLAMA, SILU, _interleaved, _describe_llama_like),
    "qwen2": Family(MODEL_ARCH.QWEN2, SILU, _as_it_is, _describe_llama_like),
    "qwen3": Family(MODEL_ARCH.QWEN3, SILU, _as_it_is, _describe_llama_like),
    "phi3": Family(MODEL_ARCH.PHI3, SILU, _as_it_is, _describe_phi3),
    "gemma3_text": Family(MODEL_ARCH.GEMMA3, TANH_GELU, _norms_plus_one, _describe_gemma),
    "gpt2": Family(
        MODEL_ARCH.GPT2,
        TANH_GELU,
        _as_it_is,
        _describe_gpt2,
        transposes=("c_attn.weight", "c_proj.weight", "c_fc.weight"),
        skips=(".attn.bias", ".attn.masked_bias"),
    ),
}
