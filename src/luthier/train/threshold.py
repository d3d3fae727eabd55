"""The threshold of a head that points at answers: from which lead on it says that the text does not say it."""

from collections.abc import Sequence

import numpy as np

from luthier.core.artifacts import Prepared
from luthier.core.events import Emit, Event
from luthier.examples.store import Split
from luthier.model.headcard import HeadCard
from luthier.model.headstep import HeadStep
from luthier.model.load import load_tokenizer
from luthier.model.pairs import read_pair
from luthier.model.quoting import find_quotes
from luthier.model.step import at_rest
from luthier.score.scores import FloatArray
from luthier.score.squad import squad_f1
from luthier.train.methods.qa.spec import QaSpec

FEWEST_FITTED = 10
"""Validation rows below which no threshold is fitted: nothing must only be likelier than the best answer."""


def with_threshold(step: HeadStep, method: QaSpec, given: Prepared, emit: Emit) -> HeadCard:
    """Return the card with the asked threshold, or the one that gives the validation rows the best token-F1."""
    card = step.card
    if method.no_answer_threshold != "auto":
        return card.model_copy(update={"threshold": method.no_answer_threshold})
    split = Split(given.split("validation"))
    if card.threshold is None:
        why = "no training row lacks an answer"
        emit(Event(room="train", kind="note", message=f"an answer is always given: {why}"))
        return card
    if len(split) < FEWEST_FITTED:
        why = f"there are {len(split)} validation rows, and {FEWEST_FITTED} are the fewest"
        emit(Event(room="train", kind="note", message=f"no threshold is fitted, it is 0: {why}"))
        return card
    examples = list(split.examples())
    tokenizer = load_tokenizer(given.base.folder)
    with at_rest(step.model):
        found = find_quotes(step, [read_pair(tokenizer, *(one.text for one in row.segments)) for row in examples])
    texts = [row.segments[1].text[one.start : one.end] for row, one in zip(examples, found, strict=True)]
    accepted = [row.accepted for row in examples]
    threshold = best_threshold(
        [one.lead for one in found],
        said=squad_f1(texts, accepted).per_row,
        silent=squad_f1([""] * len(texts), accepted).per_row,
    )
    message = f"nothing is said where it leads by more than {threshold:.3g}, best on {len(split):,} validation rows"
    emit(Event(room="train", kind="note", message=message, data={"threshold": threshold, "rows": len(split)}))
    return card.model_copy(update={"threshold": threshold, "fitted_on": len(split)})


def best_threshold(leads: Sequence[float], *, said: FloatArray, silent: FloatArray) -> float:
    """Return the threshold with the largest total score: rows that lead by more score `silent`, the others `said`.

    Between two leads it is in their middle; of equally good ones it is the one nearest to 0.
    """
    order = np.argsort(leads)
    ordered = np.asarray(leads, dtype=np.float64)[order]
    cuts = np.concatenate([[ordered[0] - 1], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 1]])
    below = np.concatenate([[0.0], np.cumsum(said[order])])
    above = silent.sum() - np.concatenate([[0.0], np.cumsum(silent[order])])
    totals = below + above
    # Leads that are equal cannot be parted.
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    best = totals[possible].max()
    good = cuts[possible & np.isclose(totals, best)]
    return float(good[np.abs(good).argmin()])
