"""Bottleneck adapters, written here since PEFT has none: y + W₂ f(W₁ y + b₁) + b₂ behind a layer that says y."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from luthier.core.errors import ModelError
from luthier.model.adapters.bottleneck import BottleneckSpec
from luthier.model.adapting.layers import decoder_layers, is_linear
from luthier.model.checks import read_json
from luthier.model.headed import head_parts

Bend = Callable[[torch.Tensor], torch.Tensor]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ACTIVATIONS: dict[str, Bend] = {
    "relu": torch.nn.functional.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}
ATTENTION = ("self_attn", "attn", "attention", "self_attention")
LAST_OF_ATTENTION = ("o_proj", "out_proj", "c_proj", "dense", "wo", "output.dense", "out_lin")
MLP = ("mlp", "feed_forward", "ffn", "output")
LAST_OF_MLP = ("down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "w2", "dense", "lin2")
THIN_STD = 0.02


class Bottleneck(torch.nn.Module):
    """A layer, and behind it a network of two thin layers that begins as nothing."""

    def __init__(self, layer: torch.nn.Module, spec: BottleneckSpec, *, channels: int) -> None:
        super().__init__()
        self.layer, self.on = layer, True
        device = next(layer.parameters()).device
        self.down = torch.nn.Linear(channels, spec.size, device=device)
        self.up = torch.nn.Linear(spec.size, channels, device=device)
        torch.nn.init.normal_(self.down.weight, std=THIN_STD)
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            torch.nn.init.zeros_(weight)
        self._bend = ACTIVATIONS[spec.activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layer says, and what the network adds."""
        y = self.layer(x)
        return y + self.up(self._bend(self.down(y))) if self.on else y


class Bottlenecks:
    """Small networks within the model's layers."""

    def __init__(self, spec: BottleneckSpec) -> None:
        self.spec = spec

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """Freeze the base and add the networks, drawn from `seed`."""
        model.requires_grad_(False)
        channels = model.config.get_text_config().hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in list(_places(model, self.spec)):
                model.set_submodule(name, Bottleneck(model.get_submodule(name), self.spec, channels=channels))
        for part in head_parts(model).values():
            part.requires_grad_(True)
        return model

    def save(self, model: PreTrainedModel, folder: Path, *, base_model: str) -> None:
        """Write the networks' weights, and a config that PEFT does not take for one of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach().cpu().contiguous() for name, weight in _weights(model)}, folder / WEIGHTS)
        told = {"peft_type": self.spec.traits.peft_type, "base_model_name_or_path": base_model}
        told |= self.spec.model_dump(exclude={"name"})
        (folder / CONFIG).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def load_bottlenecks(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Add saved networks to the base they were trained beside."""
    told = {name: value for name, value in read_json(folder / CONFIG).items() if name in BottleneckSpec.model_fields}
    try:
        spec = BottleneckSpec.model_validate(told)
    except ValidationError as error:
        raise ModelError("the adapter's config cannot be read", where={"folder": folder}, why=str(error)) from error
    model = Bottlenecks(spec).attach(model, seed=0)
    try:
        saved, ours = load_file(folder / WEIGHTS), dict(_weights(model))
    except (OSError, SafetensorError) as error:
        raise ModelError("the adapter's weights cannot be read", where={"folder": folder}, why=str(error)) from error
    wrong = [name for name in {**saved, **ours} if name not in saved or name not in ours or _differ(saved, ours, name)]
    if wrong:
        why = f"its {sorted(wrong)[0]} does not fit"
        raise ModelError("the adapter is not one of this base model", where={"folder": folder}, why=why)
    with torch.no_grad():
        for name, weight in ours.items():
            weight.copy_(saved[name])
    return model


def _differ(saved: dict[str, torch.Tensor], ours: dict[str, torch.nn.Parameter], name: str) -> bool:
    return saved[name].shape != ours[name].shape


def _weights(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Parameter]]:
    inserted = [(name, module) for name, module in model.named_modules() if isinstance(module, Bottleneck)]
    for name, module in inserted:
        for part, layer in (("down", module.down), ("up", module.up)):
            yield from ((f"{name}.{part}.{kind}", weight) for kind, weight in layer.named_parameters())
    for name, module in head_parts(model).items():
        yield from ((f"{name}.{kind}", weight) for kind, weight in module.named_parameters())


def _places(model: PreTrainedModel, spec: BottleneckSpec) -> Iterator[str]:
    """Yield the names of the layers' last projections, behind which the networks stand."""
    layers = decoder_layers(model)
    prefix = next(name for name, module in model.named_modules() if module is layers)
    parts = [(ATTENTION, LAST_OF_ATTENTION), (MLP, LAST_OF_MLP)]
    parts = parts[1:] if spec.placement == "pfeiffer" else parts
    for number, layer in enumerate(layers):
        for blocks, lasts in parts:
            yield f"{prefix}.{number}.{_last(layer, blocks, lasts, model)}"


def _last(layer: torch.nn.Module, blocks: tuple[str, ...], lasts: tuple[str, ...], model: PreTrainedModel) -> str:
    parts = dict(layer.named_modules())
    for block, last in ((block, last) for block in blocks for last in lasts):
        if is_linear(parts.get(f"{block}.{last}", layer)):
            return f"{block}.{last}"
    names = sorted(name for name, part in layer.named_modules() if is_linear(part))
    raise ModelError(
        "bottleneck adapters do not fit this model",
        where={"field": "train.adapter.name", "model": type(model).__name__},
        why=f"no layer in it is called {blocks[0]}.{lasts[0]} or the like; its linear layers are {', '.join(names)}",
        hint="take `adapter: lora`",
    )
