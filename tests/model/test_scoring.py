"""Losses of rows and scores of labels are those of the plain model."""

import random

import pytest
import torch

from luthier.examples.store import Encoded
from luthier.model.scoring import LabelScores, row_losses, score_labels
from luthier.model.tiny import FAMILIES, tiny_model


def plain_loss(model: torch.nn.Module, row: Encoded) -> float:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    return -sum(float(logits[at - 1, row.ids[at]]) for at in range(1, len(row.ids)) if row.targets[at])


def rows() -> list[Encoded]:
    draw = random.Random(0)
    start = [draw.randrange(200) for _ in range(30)]
    made = []
    for place in range(12):
        ids = start * (place % 3 > 0) + [draw.randrange(200) for _ in range(draw.randrange(6, 40))]
        targets = [False] * (len(ids) - 3) + [True] * 3
        targets[4] = place % 2 == 0
        made.append(Encoded(ids, targets, len(ids) - 3))
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_row_losses_are_those_of_the_plain_model(family: str) -> None:
    model, heard = tiny_model(family), []
    losses = row_losses(model, rows(), batch_tokens=100, progress=heard.append)
    assert [loss.tokens for loss in losses] == [sum(row.targets) for row in rows()]
    assert [loss.total for loss in losses] == pytest.approx([plain_loss(model, row) for row in rows()], abs=1e-4)
    assert sum(heard) == 12 and len(heard) > 1
    assert model.config._attn_implementation == "sdpa"


def test_a_model_with_changed_logits_is_scored_plainly() -> None:
    model = tiny_model("gemma3")
    model.config.final_logit_softcapping = 0.5
    losses = row_losses(model, rows())
    assert [loss.total for loss in losses] == pytest.approx([plain_loss(model, row) for row in rows()], abs=1e-4)


def test_a_row_without_targets_costs_nothing() -> None:
    empty = Encoded([1, 2, 3], [False] * 3, 3)
    losses = row_losses(tiny_model("llama"), [empty, rows()[0]])
    assert (losses[0].total, losses[0].tokens) == (0.0, 0)
    assert losses[1].tokens == sum(rows()[0].targets)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_scored_as_whole_answers(family: str) -> None:
    model, heard = tiny_model(family), []
    prompts = [row.ids for row in rows()]
    labels = {"a": [5, 6, 2], "b": [5, 2], "c": [9, 9, 9, 2]}
    scores = score_labels(model, prompts, labels, batch_tokens=150, progress=heard.append)
    for prompt, score in zip(prompts, scores, strict=True):
        for label, answer in labels.items():
            whole = Encoded([*prompt, *answer], [False] * len(prompt) + [True] * len(answer), len(prompt))
            assert score.log_likelihood[label] == pytest.approx(-plain_loss(model, whole), abs=1e-4)
    assert sum(heard) == len(prompts)


def test_the_likeliest_label_is_the_best_and_the_first_of_equals() -> None:
    assert LabelScores({"a": -4.0, "b": -3.0, "c": -3.0}).best == "b"
