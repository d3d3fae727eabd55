"""LLaMA-Adapter: learnt prompts inside the last layers' attention, behind a gate (arXiv:2303.16199), by PEFT."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from luthier.core.spec import Spec
from luthier.model.adapters.traits import WITHIN, Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class LlamaAdapterSpec(Spec):
    """Adaption prompts with a gate that begins closed, for Llama and Mistral (Zhang et al. 2023)."""

    name: Literal["llama_adapter"] = "llama_adapter"
    """The adapter's name in a recipe."""
    prompt_tokens: int = Field(10, ge=1, le=4096)
    """Prompt vectors in each layer; they take no room of the context."""
    layers: int = Field(2, ge=1)
    """How many of the last layers have them."""

    traits: ClassVar[Traits] = Traits("ADAPTION_PROMPT", unmergeable=WITHIN, rate=10)

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.configs import llama_adapter

        return llama_adapter(self)
