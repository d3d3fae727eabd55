"""The proof of an export: it says the same as the tuned model it was made from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict

from luthier.core.artifacts import Trained
from luthier.core.errors import LuthierError
from luthier.examples.store import Split
from luthier.model.adapter import causal_lm
from luthier.model.generate import generate
from luthier.model.template import Template

PROMPTS = 4
NEW_TOKENS = 16
TOLERANCE = 1e-3
"""Largest difference of a next-token logit that fp32 arithmetic may cause."""

Prompts = Sequence[list[int]]


@dataclass(frozen=True)
class Said:
    """What a model answers to the test prompts."""

    logits: list[torch.Tensor]
    """Next-token logits, one row of vocabulary size per prompt."""
    tokens: list[list[int]]
    """Greedy continuations."""


class Proof(BaseModel):
    """How an export compares with its source; written into its manifest."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    prompts: int
    largest_logit_difference: float
    greedy_tokens_equal: bool


def prompts_of(given: Trained) -> list[list[int]]:
    """Return the ids of a few prompts, from the test rows where there are some."""
    for name in ("test", "validation", "train"):
        split = Split(given.prepared.split(name))
        rows = [split.encoded(index) for index in range(min(PROMPTS, len(split)))]
        if rows:
            return [row.ids[: max(1, row.prompt_tokens)] for row in rows]
    raise LuthierError("there is no row to prove the export with", where={"folder": given.prepared.folder})


@torch.inference_mode()
def what_it_says(model: torch.nn.Module, template: Template, prompts: Prompts) -> Said:
    """Return the next-token logits and greedy continuations of a model."""
    model.eval()
    device = causal_lm(model).device
    logits = [model(input_ids=torch.tensor([ids], device=device)).logits[0, -1].float().cpu() for ids in prompts]
    answers = generate(model, template, prompts, max_new_tokens=NEW_TOKENS)
    return Said(logits, [answer.ids for answer in answers])


def compare(source: Said, export: Said, *, name: str) -> Proof:
    """Return the proof, or raise when the export says something else."""
    difference = max(float((a - b).abs().max()) for a, b in zip(source.logits, export.logits, strict=True))
    equal = source.tokens == export.tokens
    if not equal or not difference <= TOLERANCE:
        why = f"logits differ by up to {difference:.2g} (at most {TOLERANCE:g}), greedy tokens equal: {equal}"
        hint = "nothing was exported; please report this with the model's name"
        raise LuthierError(f"the {name} model does not say the same as the tuned one", why=why, hint=hint)
    return Proof(prompts=len(source.logits), largest_logit_difference=difference, greedy_tokens_equal=equal)
