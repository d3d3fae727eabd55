"""Learning by heart, and learning too little."""

from collections import Counter

from luthier.advise.diagnose.curve import (
    FEWEST_STEPS,
    fallen_share,
    late_share,
    levels,
    mean_between,
    start_of,
    too_short,
    watched,
)
from luthier.advise.diagnose.evidence import Curve, Evidence, Judged, Settings
from luthier.advise.diagnose.finding import Finding, grown
from luthier.advise.diagnose.rate import divergence, learning_rate_too_high

RISEN = 0.1
LEAST_RISE = 0.05
FEWEST_VALIDATIONS = 4
STILL_FALLING = 0.2
HARDLY_FALLEN = 0.02
SLOW_SHARE = 1 / 3
"""A rate below a third of the usual one counts as low: rules of thumb for one model differ by two or three times."""
MOST_EPOCHS = 20


def overfit_ready(evidence: Evidence) -> str | None:
    """Return why it cannot be said yet whether the run learns by heart."""
    curve = evidence.curve
    if curve is None:
        return None
    if not curve.validation:
        return "no validation rows are watched; set `data.split.validation`"
    if len(curve.validation) < FEWEST_VALIDATIONS:
        return f"a turn needs {FEWEST_VALIDATIONS} validations, and {len(curve.validation)} are measured so far"
    return None


def overfitting(evidence: Evidence) -> Finding | None:
    """The validation loss rises while the training loss does not.

    A rise counts from 0.05 nats (five per cent of perplexity, more than the arithmetic's noise) and from a tenth of
    the best loss. The same rows are priced each time, so their choice adds no noise. The confidence is a half where
    the larger threshold is just met.
    """
    curve, settings = evidence.curve, evidence.settings
    if curve is None or settings is None:
        return None
    best_step, best = min(curve.validation, key=lambda point: point[1])
    last_step, last = curve.validation[-1]
    rise = last - best
    threshold = max(LEAST_RISE, RISEN * best)
    width = max(5, len(curve.loss) // 10)
    before = mean_between(curve.loss, best_step - width, max(best_step, width))
    after = mean_between(curve.loss, last_step - width, last_step)
    if best_step == last_step or rise <= threshold or (before is not None and after is not None and after > before):
        return None
    kept = "the weights of the best step are kept" if settings.keep_best else "the last weights are kept, not the best"
    share = best_step / max(last_step, 1)
    return Finding(
        name="overfitting",
        what="the model learns the training rows by heart: on held-out rows it gets worse again",
        evidence=(
            f"validation loss {best:.4f} at step {best_step}, {last:.4f} at step {last_step}: {rise:.4f} worse",
            f"training loss over the last steps {after or curve.loss[-1][1]:.4f}",
            kept,
        ),
        confidence=grown(rise, threshold),
        remedy="stop at the best step, add rows, or give the adapter less room (a lower rank, dropout)",
        patch=_shorter(settings, share)
        | {"train.early_stopping.patience": 2, "train.keep_best": True}
        | ({"train.adapter.dropout": 0.1} if settings.rank else {}),
    )


def _shorter(settings: Settings, share: float) -> dict[str, object]:
    share = max(share * 1.2, 0.05)
    if settings.steps is not None:
        return {"train.steps": max(1, round(settings.steps * share))}
    return {"train.epochs": round((settings.epochs or 3) * share, 2)}


def _longer(settings: Settings) -> dict[str, object]:
    if settings.steps is not None:
        return {"train.steps": settings.steps * 2}
    return {"train.epochs": min(MOST_EPOCHS, round((settings.epochs or 3) * 2, 2))}


def learning_ready(evidence: Evidence) -> str | None:
    """Return why it cannot be said yet whether the run learns enough."""
    curve = evidence.curve
    if curve is None:
        return None
    if not curve.ended and not curve.broken:
        return f"step {curve.done} of {curve.planned}: whether it learns enough shows at the end"
    return too_short(curve)


def _slow(settings: Settings) -> bool:
    return settings.learning_rate < SLOW_SHARE * settings.usual_rate


def _unlearned(curve: Curve) -> str | None:
    """Return in words that the run ended before it had learned what it could, or None where it had.

    A curve that has arrived makes next to nothing of its fall in the last third of the steps, a straight line makes a
    third; from a fifth on it had not arrived. A loss that is within two per cent of the untuned model's has hardly
    moved at all, unless the untuned model already was nearly sure (below 0.1 nats).
    """
    fallen, late = fallen_share(curve), late_share(curve)
    last = watched(curve)[-1][1]
    if last > start_of(curve) or start_of(curve) < 2 * LEAST_RISE:
        return None
    if fallen < HARDLY_FALLEN:
        return f"the loss has fallen by {fallen:.1%} only, from {start_of(curve):.4f} to {last:.4f}"
    if late >= STILL_FALLING and fallen * start_of(curve) > LEAST_RISE:
        return f"{late:.0%} of the fall from {start_of(curve):.4f} to {last:.4f} came in the last third of the steps"
    return None


def learning_rate_too_low(evidence: Evidence) -> Finding | None:
    """The run ended before it had learned, and its rate is below a third of the usual one for such a model."""
    curve, settings = evidence.curve, evidence.settings
    if curve is None or settings is None:
        return None
    unlearned = _unlearned(curve)
    if unlearned is None or not _slow(settings):
        return None
    factor = settings.usual_rate / settings.learning_rate
    return Finding(
        name="learning-rate-too-low",
        what="the steps are too small: the model has hardly moved away from the untuned one",
        evidence=(
            unlearned,
            f"learning rate {settings.learning_rate:g}, usual for this model {settings.usual_rate:g}",
            *_norms(curve),
        ),
        confidence=grown(factor, 1 / SLOW_SHARE),
        remedy="take the usual learning rate",
        patch={"train.learning_rate": settings.usual_rate},
    )


def underfitting(evidence: Evidence) -> Finding | None:
    """The run ended before it had learned, at a rate that is no reason for it: it needs more steps, or more room.

    Where the loss has come to rest, the labels decide: a model that labels held-out rows no better than always saying
    the commonest one has learned how answers look and nothing else. No better means within two standard deviations.
    """
    curve, settings = evidence.curve, evidence.settings
    if curve is None or settings is None:
        return None
    at_rest = None if overfitting(evidence) else _no_better_than_one_label(evidence.judged)
    unlearned = _unlearned(curve) or at_rest
    if unlearned is None or _slow(settings) or divergence(evidence) or learning_rate_too_high(evidence):
        return None
    last = levels(curve.loss)[-1][1]
    little = at_rest is not None or fallen_share(curve) < HARDLY_FALLEN
    room = {"train.adapter.r": settings.rank * 2} if settings.rank and little else {}
    return Finding(
        name="underfitting",
        what="training ended before the model had learned what the rows teach",
        evidence=(unlearned, f"training loss {last:.4f} after {curve.done} steps", *_norms(curve)),
        confidence=grown(max(late_share(curve), STILL_FALLING), STILL_FALLING),
        remedy="train for longer; where the loss hardly falls, give the adapter more room or look at the rows",
        patch=_longer(settings) | room,
    )


def _no_better_than_one_label(judged: tuple[Judged, ...] | None) -> str | None:
    """Return in words that the model labels as if it had not read the rows, or None where it does better."""
    if judged is None or len(judged) < FEWEST_STEPS:
        return None
    right = sum(max(row.probabilities, key=row.probabilities.__getitem__) == row.label for row in judged) / len(judged)
    label, count = Counter(row.label for row in judged).most_common(1)[0]
    commonest = count / len(judged)
    if right > commonest + 2 * (commonest * (1 - commonest) / len(judged)) ** 0.5:
        return None
    return f"{right:.0%} of {len(judged)} held-out rows are labelled right; always {label!r} would be {commonest:.0%}"


def _norms(curve: Curve) -> tuple[str, ...]:
    if len(curve.grad_norm) < FEWEST_STEPS:
        return ()
    tenth = max(3, len(curve.grad_norm) // 10)
    first = sum(value for _, value in curve.grad_norm[:tenth]) / tenth
    last = sum(value for _, value in curve.grad_norm[-tenth:]) / tenth
    return (f"gradient norm {first:.3g} at the start, {last:.3g} at the end",)
