"""Spec: the frozen, documented form of everything a person can ask for."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Auto = Literal["auto"]
"""The word in a recipe that leaves a value to be resolved, with its reason, in the plan."""


class Spec(BaseModel):
    """A light, frozen configuration; unknown keys are errors and each field carries a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


NAME_BRANCH, BLOCK_BRANCH = "(name)", "(block)"
"""Tags of a choice between a name and a block of options; they stand in no recipe."""


def branch_of(entry: object) -> str:
    """Return the tag of what a recipe writes: one word, or a block."""
    return NAME_BRANCH if isinstance(entry, str) else BLOCK_BRANCH
