"""Prompt tuning: learnt word vectors before each conversation (Lester et al. 2021, arXiv:2104.08691), by PEFT."""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from luthier.core.spec import Spec
from luthier.model.adapters.traits import BEFORE, Traits

if TYPE_CHECKING:
    from luthier.model.adapter import Adapter


class PromptTuningSpec(Spec):
    """Virtual tokens whose vectors train; they take room of the model's context."""

    name: Literal["prompt_tuning"] = "prompt_tuning"
    """The adapter's name in a recipe."""
    virtual_tokens: int = Field(20, ge=1, le=4096)
    """How many there are."""
    init: Literal["vocabulary", "random", "text"] = "vocabulary"
    """What they begin as: words drawn from the vocabulary, random vectors, or the words of `text`."""
    text: str = ""
    """What to begin with, such as the task in words; repeated or cut to the number of virtual tokens."""

    traits: ClassVar[Traits] = Traits("PROMPT_TUNING", unmergeable=BEFORE, start="drawn", rate=30)

    @model_validator(mode="after")
    def _has_a_text(self) -> Self:
        if (self.init == "text") != bool(self.text.strip()):
            raise ValueError("`init: text` and `text` go together")
        return self

    def build(self) -> "Adapter":
        """Return what attaches and saves this adapter."""
        from luthier.model.adapting.prompts import prompt_tuning

        return prompt_tuning(self)
