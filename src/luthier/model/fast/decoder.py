"""A Llama-like decoder over a layout, reading the model's own modules; the model itself is never changed."""

from dataclasses import dataclass

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from luthier.model.attention import LayoutAttention
from luthier.model.fast.blocks import Means, head_norm, linear_add, norm_linears, rotate, swiglu_add
from luthier.model.fast.kernels import Kernels
from luthier.model.fast.linear import Casts, Projection

Turn = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine of each position's angles, (N, 1, E)."""

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")

ADDED = ("peft.", "luthier.")
"""Where the modules come from that are not the model's own."""


@dataclass(frozen=True)
class Norm:
    """An RMS norm's gain (C,) and epsilon."""

    gain_C: torch.Tensor
    eps: float


@dataclass(frozen=True)
class Layer:
    """One decoder layer, as the fast blocks need it."""

    before_attention: Norm
    before_mlp: Norm
    query_key_value: list[Projection]
    out: Projection
    gate_up: list[Projection]
    down: Projection
    query_norm: Norm | None
    key_norm: Norm | None
    head_channels: int
    scale: float
    window: int | None


class FastDecoder:
    """Hidden states of a flat sequence, with gradients for whatever the model trains."""

    def __init__(self, lm: PreTrainedModel, *, dtype: torch.dtype, compiled: bool = False) -> None:
        self.lm = lm
        self.means = Means(Casts(dtype), Kernels.compiled() if compiled else Kernels())
        self.recompute = lm.is_activation_checkpointing
        self.layers = [_layer(module) for module in lm.model.layers]

    def hidden(
        self, ids_N: torch.Tensor, positions_N: torch.Tensor, attention: LayoutAttention, wanted_M: torch.Tensor
    ) -> torch.Tensor:
        """Return the last hidden states before the final norm at the wanted positions, (M, C), fp32."""
        x = self.lm.get_input_embeddings()(ids_N)
        cos, sin = self.lm.model.rotary_emb(x[None], positions_N[None])
        half = cos.shape[-1] // 2
        turn = cos[0, :, None, :half], sin[0, :, None, :half]
        for layer in self.layers[:-1]:
            x = self._layer(layer, x, turn, attention, None)
        return self._layer(self.layers[-1], x, turn, attention, wanted_M)

    def _layer(self, *arguments: object) -> torch.Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._run, *arguments, use_reentrant=False)
        return self._run(*arguments)

    def _run(
        self, layer: Layer, x: torch.Tensor, turn: Turn, attention: LayoutAttention, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        norm, kernels = layer.before_attention, self.means.kernels
        states = norm_linears(x, norm.gain_C, norm.eps, means=self.means, projections=layer.query_key_value)
        q, k, v = (state.unflatten(-1, (-1, layer.head_channels)) for state in states)
        if layer.query_norm is not None:
            q = head_norm(q, layer.query_norm.gain_C, layer.query_norm.eps, kernels)
            k = head_norm(k, layer.key_norm.gain_C, layer.key_norm.eps, kernels)
        q, k = rotate(q, *turn, kernels), rotate(k, *turn, kernels)
        attended = attention(q, k, v, scale=layer.scale, window=layer.window).flatten(1)

        # After the last attention only the positions that predict a target go on.
        if wanted is not None:
            x, attended = x[wanted], attended[wanted]
        x = linear_add(x, attended, means=self.means, projection=layer.out)

        norm = layer.before_mlp
        gate, up = norm_linears(x, norm.gain_C, norm.eps, means=self.means, projections=layer.gate_up)
        return swiglu_add(x, gate, up, means=self.means, projection=layer.down)


def why_not(lm: PreTrainedModel) -> str | None:
    """Return why the fast decoder cannot run this model, or None where it can."""
    name = type(lm).__name__
    if name not in ARCHITECTURES:
        return f"{name} is not one of {', '.join(ARCHITECTURES)}"
    if lm.config.hidden_act != "silu":
        return f"its activation is {lm.config.hidden_act}"
    odd = next((m for m in (*_added(lm), *_projected(lm)) if not _plain(m)), None)
    return None if odd is None else f"a {type(odd).__name__} layer with options the fast decoder does not know"


def _added(lm: PreTrainedModel) -> list[torch.nn.Module]:
    """Return what adapters have put into the layers, such as norms of their own or another attention."""
    return [part for part in lm.model.layers.modules() if type(part).__module__.startswith(ADDED)]


def _projected(lm: PreTrainedModel) -> list[torch.nn.Module]:
    return [
        module
        for layer in lm.model.layers
        for part in (layer.self_attn, layer.mlp)
        for name, module in part.named_children()
        if name.endswith("_proj")
    ]


def _plain(module: torch.nn.Module) -> bool:
    """Tell whether a layer is y = W x + b, with at most one plain, unmerged LoRA update without dropout."""
    if type(module) is not LoraLinear:
        return type(module) is torch.nn.Linear
    names = module.active_adapters
    return (
        type(module.base_layer) is torch.nn.Linear
        and len(names) == 1
        and not module.merged
        and not module.disable_adapters
        and not module.use_dora[names[0]]
        and isinstance(module.lora_dropout[names[0]], torch.nn.Identity)
        and not module.lora_bias[names[0]]
    )


def _projection(module: torch.nn.Module) -> Projection:
    if isinstance(module, torch.nn.Linear):
        return Projection(module.weight, module.bias)
    base, name = module.base_layer, module.active_adapters[0]
    down, up = module.lora_A[name].weight, module.lora_B[name].weight
    return Projection(base.weight, base.bias, down, up, module.scaling[name])


def _norm(module: torch.nn.Module) -> Norm:
    return Norm(module.weight, module.variance_epsilon)


def _layer(module: torch.nn.Module) -> Layer:
    attention, mlp = module.self_attn, module.mlp
    query_norm, key_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    return Layer(
        before_attention=_norm(module.input_layernorm),
        before_mlp=_norm(module.post_attention_layernorm),
        query_key_value=[_projection(m) for m in (attention.q_proj, attention.k_proj, attention.v_proj)],
        out=_projection(attention.o_proj),
        gate_up=[_projection(mlp.gate_proj), _projection(mlp.up_proj)],
        down=_projection(mlp.down_proj),
        query_norm=None if query_norm is None else _norm(query_norm),
        key_norm=None if key_norm is None else _norm(key_norm),
        head_channels=attention.head_dim,
        scale=attention.scaling,
        window=getattr(attention, "sliding_window", None),
    )
