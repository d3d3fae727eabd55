"""What training with a head adds: the head's card from the rows, its step, and its temperature at the end."""

from collections import Counter

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from luthier.core.artifacts import HeadKind, Prepared
from luthier.core.errors import DataError, RecipeError
from luthier.core.events import Emit, Event
from luthier.examples.spans import tag_set
from luthier.examples.store import Split
from luthier.model.checks import pools_mean
from luthier.model.headcard import SCORE, VECTOR, HeadCard, Pooling
from luthier.model.headed import vector_size
from luthier.model.headstep import HeadStep
from luthier.model.step import at_rest
from luthier.model.vectors import VectorStep
from luthier.train.batches import Cut
from luthier.train.methods.classify.spec import ClassifySpec
from luthier.train.methods.embed.spec import EmbedSpec
from luthier.train.methods.heads import truths
from luthier.train.methods.method import Method
from luthier.train.methods.qa.spec import QaSpec
from luthier.train.methods.regress.spec import RegressSpec
from luthier.train.spec import AnyMethod, TrainSpec
from luthier.train.threshold import with_threshold
from luthier.train.windows import quote_card

WHY_PLAIN = "a head reads each text whole, so that there is no part to share and no LM head to shorten"
FEWEST_FITTED = 10
"""Validation rows below which no temperature is fitted: a few lucky rows would make any certainty right."""
COLDEST, HOTTEST = 0.05, 20.0


def head_card(method: AnyMethod, given: Prepared, train: Split) -> HeadCard | None:
    """Return what a method's head will say of these rows; None where the method has no head."""
    if not method.heads:
        return None
    kind = given.answer_kind
    if kind not in method.heads:
        why = f"it learns {' or '.join(method.heads)} of raw text, and the rows were prepared for `{kind}` answers"
        hint = "set `data.render: text`, or leave it on `auto`"
        raise DataError(
            f"the method `{method.name}` does not take these rows", where={"field": "data.render"}, why=why, hint=hint
        )
    if isinstance(method, QaSpec):
        return quote_card(method, given, train)
    pooling = _pooling(method, given)
    if isinstance(method, EmbedSpec):
        return _vector_card(method, given, train, pooling)
    if kind == "score":
        return _score_card(given, train, pooling)
    labels = tag_set(given.labels) if kind == "spans" else given.labels
    if len(given.labels) < (2 if kind == "label" else 1):
        what = "there is nothing to tell apart" if kind == "label" else "no row names anything"
        why = f"all rows have the label `{given.labels[0]}`" if given.labels else "the rows have no label"
        raise DataError(what, where={"field": "data.path"}, why=why, hint="add rows with other labels")
    counts = _counts(train, kind)
    rows = tuple(counts[label] for label in labels)
    counted = {"rows": rows, "texts": len(train)}
    return HeadCard(kind=kind, labels=labels, tokens=given.context_tokens, pooling=pooling, **counted)


def head_step(model: torch.nn.Module, card: HeadCard, spec: TrainSpec, emit: Emit) -> HeadStep | VectorStep:
    """Return the one step there is for heads, and say why it is the plain one."""
    emit(Event(room="train", kind="note", message=f"the plain step runs: {WHY_PLAIN}"))
    if card.is_vector:
        return VectorStep(model, card, precision=spec.precision)
    return HeadStep(model, card, precision=spec.precision)


def with_temperature(step: HeadStep, spec: TrainSpec, given: Prepared, method: Method, emit: Emit) -> HeadCard:
    """Return the card with the temperature under which the validation rows are least surprising, or the threshold."""
    card, split = step.card, Split(given.split("validation"))
    if isinstance(spec.method, QaSpec):
        return with_threshold(step, spec.method, given, emit)
    if not (isinstance(spec.method, ClassifySpec) and spec.method.calibrate):
        return card
    if len(split) < FEWEST_FITTED:
        why = f"there are {len(split)} validation rows, and {FEWEST_FITTED} are the fewest"
        emit(Event(room="train", kind="note", message=f"no temperature is fitted: {why}"))
        return card
    logits, truth = _said(step, split, method, spec, emit)
    if not wrongs(logits, truth):
        why = f"all {len(split):,} validation rows are right, and would make any certainty right too"
        emit(Event(room="train", kind="note", message=f"no temperature is fitted: {why}"))
        return card
    temperature = fitted_temperature(logits, truth)
    message = f"a temperature of {temperature:.3g} makes the probabilities right on {len(split):,} validation rows"
    emit(Event(room="train", kind="note", message=message, data={"temperature": temperature, "rows": len(split)}))
    return card.model_copy(update={"temperature": temperature, "fitted_on": len(split)})


def wrongs(logits: torch.Tensor, truth: torch.Tensor) -> int:
    """Return how many labels are said wrongly; `truth` as in `fitted_temperature`."""
    if _is_one_of(logits, truth):
        return int((logits.argmax(-1) != truth[:, 0].long()).sum())
    return int(((logits > 0) != (truth > 0)).sum())


def fitted_temperature(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    `truth` is (N, 1), the number of each row's label, or (N, K), whether a row has each label.
    """
    logits, truth = logits.double(), truth.double()

    def surprise(log_temperature: float) -> float:
        milder = logits / float(np.exp(log_temperature))
        if _is_one_of(logits, truth):
            return float(cross_entropy(milder, truth[:, 0].long()))
        return float(binary_cross_entropy_with_logits(milder, truth))

    found = minimize_scalar(surprise, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def _is_one_of(logits: torch.Tensor, truth: torch.Tensor) -> bool:
    """Tell whether each row has one label; a head of one output says whether a row has it."""
    return truth.shape[1] == 1 and logits.shape[1] > 1


@torch.no_grad()
def _said(
    step: HeadStep, split: Split, method: Method, spec: TrainSpec, emit: Emit
) -> tuple[torch.Tensor, torch.Tensor]:
    cut = Cut(spec.micro_batch_tokens, share=False)
    judged = method.referenced(step, split, cut, emit)
    rows = [judged.encoded(i) for i in range(len(judged))]
    with at_rest(step.model):
        parts = [(step.logits(group).cpu(), truths(group, torch.device("cpu"))) for group in cut(rows)]
    return torch.cat([logits for logits, _ in parts]), torch.cat([truth for _, truth in parts])


def _pooling(method: AnyMethod, given: Prepared) -> Pooling:
    asked = method.pooling if isinstance(method, ClassifySpec | RegressSpec | EmbedSpec) else "model"
    if asked != "auto":
        return asked
    return "mean" if pools_mean(given.base.folder) else "model"


def _vector_card(method: EmbedSpec, given: Prepared, train: Split, pooling: Pooling) -> HeadCard:
    size, longest = vector_size(given.base.folder), max(method.matryoshka, default=1)
    if longest > size:
        why = f"a vector of {given.base.title} has {size} numbers"
        hint = f"take lengths up to {size}"
        where = {"field": "train.method.matryoshka"}
        raise RecipeError(f"a vector cannot be cut to {longest} numbers", where=where, why=why, hint=hint)
    return HeadCard(
        kind=given.answer_kind,
        labels=(VECTOR,),
        pooling=pooling,
        normalize=method.normalize,
        dimensions=tuple(sorted(method.matryoshka, reverse=True)),
        tokens=given.context_tokens,
        texts=len(train),
    )


def _score_card(given: Prepared, train: Split, pooling: Pooling) -> HeadCard:
    scores = np.array([example.score or 0.0 for example in train.examples()])
    mean, spread = float(scores.mean()), float(scores.std())
    if not spread:
        hint = "add rows with other numbers"
        raise DataError(
            "there is nothing to learn",
            where={"field": "data.path"},
            why=f"every row has the number {mean:g}",
            hint=hint,
        )
    measured = {"texts": len(train), "mean": mean, "spread": spread}
    return HeadCard(kind="score", labels=(SCORE,), pooling=pooling, tokens=given.context_tokens, **measured)


def _counts(train: Split, kind: HeadKind) -> Counter[str]:
    if kind == "spans":
        return Counter(tag for row in range(len(train)) for tag in train.encoded(row).tags)
    return Counter(label for one in train.examples() for label in (one.labels or (one.label,)) if label is not None)
