"""One small example of each adapter and of its options, for the tests of what holds for all."""

from pathlib import Path

import torch

from luthier.model.adapters.boft import BoftSpec
from luthier.model.adapters.bottleneck import BottleneckSpec
from luthier.model.adapters.freeze import FreezeSpec
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.ia3 import Ia3Spec
from luthier.model.adapters.llama_adapter import LlamaAdapterSpec
from luthier.model.adapters.ln_tuning import LnTuningSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.adapters.oft import OftSpec
from luthier.model.adapters.p_tuning import PTuningSpec
from luthier.model.adapters.prefix_tuning import PrefixTuningSpec
from luthier.model.adapters.prompt_tuning import PromptTuningSpec
from luthier.model.adapters.qlora import QloraSpec
from luthier.model.adapters.union import AdapterSpec
from luthier.model.adapters.vera import VeraSpec
from luthier.model.load import load_model
from luthier.model.tiny import save_tiny

CASES: dict[str, AdapterSpec] = {
    "lora": LoraSpec(r=4),
    "lora-gaussian": LoraSpec(r=4, init="gaussian", rslora=True),
    "lora-orthogonal": LoraSpec(r=4, init="orthogonal"),
    "lora-pissa": LoraSpec(r=4, init="pissa"),
    "lora-olora": LoraSpec(r=4, init="olora", rslora=True),
    "lora-eva": LoraSpec(r=4, init="eva"),
    "lora-dora": LoraSpec(r=4, dora=True),
    "lora-patterns": LoraSpec(r=4, rank_pattern={"q_proj": 2}, alpha_pattern={"mlp.down_proj": 3.0}, init="pissa"),
    "lora-whole-parts": LoraSpec(r=4, target_modules=("q_proj",), modules_to_save=("input_layernorm",)),
    "qlora": QloraSpec(r=4),
    "qlora-loftq": QloraSpec(r=4, init="loftq"),
    "vera": VeraSpec(r=8),
    "ia3": Ia3Spec(),
    "oft": OftSpec(block_size=8),
    "boft": BoftSpec(),
    "ln_tuning": LnTuningSpec(),
    "bottleneck": BottleneckSpec(size=4),
    "bottleneck-pfeiffer": BottleneckSpec(size=4, placement="pfeiffer", activation="gelu"),
    "prompt_tuning": PromptTuningSpec(virtual_tokens=5),
    "prompt_tuning-text": PromptTuningSpec(virtual_tokens=5, init="text", text="say it"),
    "prefix_tuning": PrefixTuningSpec(virtual_tokens=5),
    "prefix_tuning-projection": PrefixTuningSpec(virtual_tokens=5, projection=8),
    "p_tuning": PTuningSpec(virtual_tokens=5, hidden=8),
    "p_tuning-lstm": PTuningSpec(virtual_tokens=5, hidden=8, encoder="lstm"),
    "llama_adapter": LlamaAdapterSpec(prompt_tokens=4),
    "freeze": FreezeSpec(layers=1, head=True),
    "full": FullSpec(),
}


class Tuned:
    """A tiny model with an adapter whose weights have moved away from where they begin, as training does it."""

    def __init__(self, folder: Path, family: str, spec: AdapterSpec, *, moved: bool = True) -> None:
        self.base = save_tiny(folder / "base", family)
        self.adapter = spec.build()
        self.model = self.adapter.attach(load_model(self.base), seed=1)
        if moved:
            push(self.model)

    def saved(self, folder: Path) -> Path:
        """Save the adapter, and return the folder."""
        folder.mkdir()
        self.adapter.save(self.model, folder, base_model="tiny")
        return folder


def push(model: torch.nn.Module, by: float = 0.05) -> None:
    """Move the trained weights a little, each its own way."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight += by * torch.randn(weight.shape, generator=generator)
