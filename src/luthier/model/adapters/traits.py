"""What the rest of the house must know of an adapter without building it."""

from dataclasses import dataclass
from typing import Literal

Start = Literal["base", "given", "drawn"]
"""As what a fresh adapter begins: as the base itself, as something that was given to it, or as something drawn."""

BEFORE = "what it learns stands before each conversation, and is in none of the model's weights"
BETWEEN = "its small networks have a bend in them, which no weight of the model can hold"
WITHIN = "its prompts are asked anew in each attention, which no weight of the model can hold"


@dataclass(frozen=True)
class Traits:
    """An adapter's properties that do not follow from its options alone."""

    peft_type: str = ""
    """What its config file calls it; empty where a whole model is saved."""
    whole: bool = False
    """Whether weights of the model itself train, and a whole model is saved."""
    unmergeable: str = ""
    """Why it cannot be added into the model's weights; empty where it can."""
    start: Start = "base"
    """As what it begins. Only where that is the base must the first loss be the untuned model's."""
    reads_rows: bool = False
    """Whether it must be shown rows of training before it begins."""
    rate: float = 1.0
    """Its usual learning rate, in LoRA's."""
    recomputes: bool = True
    """Whether it can train with `gradient_checkpointing`."""
