"""What the tuned model itself says: the yardstick of every certificate, computed once."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.core.events import Emit, Event
from luthier.jobs.export.source import Source

if TYPE_CHECKING:
    import numpy as np
    import torch

    from luthier.model.generate import Answer

    Chances = np.ndarray[Any, np.dtype[np.float32]]

POSITIONS = 400
"""Tokens at which whole distributions are compared."""
ROWS = 64
"""Prompts along whose answers they lie, at most."""
BASE_POSITIONS = 100
"""Tokens at which the untuned model is compared, too."""


@dataclass(frozen=True)
class Said:
    """The tuned model's answers, and its next-token chances along some of them."""

    answers: "list[Answer]"
    rows: list[int]
    """Which prompts have chances."""
    chances: "list[Chances]"
    """Natural-log probabilities, (answer tokens + 1, vocabulary), in the order of `rows`."""
    base_divergence: float | None
    """Mean divergence of the untuned model's chances, in nats per token."""


def say(source: Source, emit: Emit) -> Said:
    """Let the tuned model answer, unmerged, by plain transformers and PEFT."""
    import torch

    from luthier.model.adapter import load_tuned
    from luthier.model.generate import generate
    from luthier.model.load import load_model

    folder = source.base.folder
    model = load_model(folder) if source.weights is None else load_tuned(folder, source.weights)
    questions = source.asked.questions
    total, done = len(questions), 0

    def heard(rows: int) -> None:
        nonlocal done
        done += rows
        told = {"done": done, "total": total, "system": "tuned", "task": "answers"}
        emit(Event(room="export", kind="progress", message="the tuned model answers", data=told))

    prompts = [question.ids for question in questions]
    answers = generate(model, source.template, prompts, max_new_tokens=source.asked.max_new_tokens, progress=heard)
    rows = _rows([len(answer.ids) + 1 for answer in answers])
    with torch.inference_mode():
        chances = [_chances(model, prompts[row], answers[row].ids) for row in rows]
        base = _base_divergence(source, model, [(prompts[row], answers[row].ids) for row in rows], chances)
    return Said(answers, rows, chances, base)


def _rows(positions: Sequence[int]) -> list[int]:
    """Return the first rows that have no more than so many positions together; at least one."""
    rows: list[int] = []
    room = POSITIONS
    for row, count in enumerate(positions[:ROWS]):
        if count <= room or not rows:
            rows.append(row)
            room -= count
    return rows


def _chances(model: "torch.nn.Module", prompt: list[int], answer: list[int]) -> "Chances":
    import torch

    from luthier.model.adapter import causal_lm

    ids = torch.tensor([[*prompt, *answer]], device=causal_lm(model).device)
    logits = model(input_ids=ids, logits_to_keep=len(answer) + 1, use_cache=False).logits[0]
    return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()


def _base_divergence(
    source: Source,
    model: "torch.nn.Module",
    rows: "Sequence[tuple[list[int], list[int]]]",
    chances: "Sequence[Chances]",
) -> float | None:
    """Return how far the untuned model is from the tuned one."""
    from luthier.jobs.export.diverging import divergence
    from luthier.model.adapter import adapter_off
    from luthier.model.adapters.qlora import ROUNDED_BASE
    from luthier.model.load import load_model

    if source.weights is None:
        return None
    count, positions = 0, 0
    while count < len(rows) and positions < BASE_POSITIONS:
        positions += len(chances[count])
        count += 1
    rounded = source.weights is not None and (source.weights / ROUNDED_BASE).exists()
    with contextlib.ExitStack() as stack:
        if source.is_adapter and not rounded:
            stack.enter_context(adapter_off(model))
        else:
            model = load_model(source.base.folder)
        untuned = [_chances(model, prompt, answer) for prompt, answer in rows[:count]]
    return divergence(chances[:count], untuned).mean
