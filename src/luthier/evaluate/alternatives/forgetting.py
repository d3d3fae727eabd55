"""Forgetting: what a tuned model says to things that are not its task, beside what it said before."""

import math
from dataclasses import dataclass

import torch

from luthier.evaluate.alternatives.probes import QUESTIONS, TEXTS
from luthier.examples.example import Example, Message, Segment
from luthier.examples.store import Encoded
from luthier.model.scoring import row_losses
from luthier.model.template import Template


@dataclass(frozen=True)
class General:
    """How a model does on the general probes."""

    perplexity: float
    """Of plain texts, per token."""
    right: int
    """Easy questions whose likeliest answer is the right one."""
    questions: int


def general(model: torch.nn.Module, template: Template) -> General:
    """Put the general probes to a model."""
    texts = [template.encode(Example(segments=(Segment(text=text, target=True),))) for text in TEXTS]
    losses = row_losses(model, texts)
    total, tokens = sum(loss.total for loss in losses), sum(loss.tokens for loss in losses)
    rows = [
        (number, _asked(template, probe.question, answer))
        for number, probe in enumerate(QUESTIONS)
        for answer in probe.answers
    ]
    priced = row_losses(model, [row for _, row in rows])
    found: dict[int, list[float]] = {}
    for (number, _), loss in zip(rows, priced, strict=True):
        found.setdefault(number, []).append(loss.total)
    right = sum(losses.index(min(losses)) == 0 for losses in found.values())
    return General(math.exp(total / tokens), right, len(QUESTIONS))


def _asked(template: Template, question: str, answer: str) -> Encoded:
    """Return a question and its answer without the end of the turn.

    A model that would go on with a whole sentence is not wrong. Measured on the embedded model, of 20 questions: 13
    right so, 9 with the end of the turn, 5 where the loss is also divided by the tokens.
    """
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    whole = template.encode(Example(messages=turns))
    answered = range(whole.prompt_tokens, len(whole.ids))
    end = next((place for place in answered if whole.ids[place] in template.stop_ids), len(whole.ids))
    return Encoded(whole.ids[:end], whole.targets[:end], whole.prompt_tokens)
