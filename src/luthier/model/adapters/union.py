"""All adapters: the union that a recipe chooses from, and how to know one by its saved config."""

from typing import Annotated

from pydantic import Field

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
from luthier.model.adapters.traits import Traits
from luthier.model.adapters.vera import VeraSpec

Beside = LoraSpec | QloraSpec | VeraSpec | Ia3Spec | OftSpec | BoftSpec | LnTuningSpec | BottleneckSpec
Before = PromptTuningSpec | PrefixTuningSpec | PTuningSpec | LlamaAdapterSpec
AdapterSpec = Annotated[Beside | Before | FreezeSpec | FullSpec, Field(discriminator="name")]

KNOWN: dict[str, Traits] = {
    spec().traits.peft_type: spec().traits
    for spec in (
        LoraSpec,
        VeraSpec,
        Ia3Spec,
        OftSpec,
        BoftSpec,
        LnTuningSpec,
        BottleneckSpec,
        PromptTuningSpec,
        PrefixTuningSpec,
        PTuningSpec,
        LlamaAdapterSpec,
    )
}
"""Adapters that can be loaded, by what their config file calls them."""
