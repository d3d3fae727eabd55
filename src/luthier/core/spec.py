"""Spec: the frozen, documented form of everything a person can ask for."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Auto = Literal["auto"]
"""The word in a recipe that leaves a value to be resolved, with its reason, in the plan."""


class Spec(BaseModel):
    """A light, frozen configuration; unknown keys are errors and each field carries a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
