"""Steps that are too large: a loss that climbs, never comes back, or jumps."""

from statistics import median

from luthier.advise.diagnose.curve import levels, noise, spikes, start_of, too_short
from luthier.advise.diagnose.evidence import Curve, Evidence, Settings
from luthier.advise.diagnose.finding import Finding, grown, sure

WORSE = 1.1
LOST = 0.25
LEAST_LOSS = 0.2
NOISE_SIGMAS = 8.0


def shape_ready(evidence: Evidence) -> str | None:
    """Return why the shape of the training curve cannot be read yet."""
    curve = evidence.curve
    return too_short(curve) if curve is not None and not curve.broken else None


def divergence(evidence: Evidence) -> Finding | None:
    """The loss is not finite, or the run's last level is a tenth worse than the untuned model's.

    A tuned model that is worse on its own training rows than the untuned one has lost what it knew; a tenth is far
    more than batches of rows differ from the validation rows that say where it began.
    """
    curve, settings = evidence.curve, evidence.settings
    if curve is None or settings is None:
        return None
    if curve.broken:
        return _diverged(curve, settings, (curve.broken,), 0.99)
    start, last = start_of(curve), levels(curve.loss)[-1][1]
    if last <= WORSE * start or last - start < LEAST_LOSS:
        return None
    told = (f"training loss {last:.4f} at step {curve.done}, untuned {start:.4f}", *_clipping(curve, settings))
    return _diverged(curve, settings, told, grown(last / start - 1, WORSE - 1))


def _diverged(curve: Curve, settings: Settings, told: tuple[str, ...], confidence: float) -> Finding:
    return Finding(
        name="divergence",
        what="training has run away: the model is worse than before, or its loss is no number",
        evidence=(*told, f"peak learning rate {settings.learning_rate:g}"),
        confidence=confidence,
        remedy="take a much lower learning rate and clip the gradients; look at the rows of the step that broke",
        patch=_slower(settings, 10),
    )


def learning_rate_too_high(evidence: Evidence) -> Finding | None:
    """The level of the training loss climbs by a quarter of what is learned in all, by more than batches differ.

    Levels are medians over windows, so single batches do not count. Between two windows of five the noise of batches
    makes 0.8 of its standard deviation, and the widest of all gaps in a run some four times that; eight standard
    deviations leave room for heavy tails. A run that ends up worse than it began has diverged and has its own name.
    """
    curve, settings = evidence.curve, evidence.settings
    if curve is None or settings is None:
        return None
    if curve.broken or divergence(evidence) is not None:
        return None
    start, best, worst = start_of(curve), (0, start_of(curve)), (0, 0.0, 0.0)
    for step, level in levels(curve.loss):
        best = min(best, (step, level), key=lambda point: point[1])
        worst = max(worst, (step, level, level - best[1]), key=lambda point: point[2])
    at, level, climb = worst
    learned = start - min(value for _, value in levels(curve.loss))
    threshold = max(LEAST_LOSS, LOST * learned, NOISE_SIGMAS * noise(curve.loss))
    if climb <= threshold:
        return None
    return Finding(
        name="learning-rate-too-high",
        what="the steps are too large: the loss climbs for whole stretches before it comes back",
        evidence=(
            f"training loss climbs by {climb:.4f} to {level:.4f} at step {at}; {start:.4f} untuned",
            f"peak learning rate {settings.learning_rate:g}, usual for this model {settings.usual_rate:g}",
            *_clipping(curve, settings),
        ),
        confidence=grown(climb, threshold),
        remedy="take a lower learning rate, and a longer warm-up",
        patch=_slower(settings, 4),
    )


def _slower(settings: Settings, factor: int) -> dict[str, object]:
    rate = float(f"{min(settings.learning_rate / factor, settings.usual_rate):.2g}")
    return {
        "train.learning_rate": rate,
        "train.warmup": max(settings.warmup, 0.1),
        "train.max_grad_norm": settings.max_grad_norm or 1.0,
    }


def _clipping(curve: Curve, settings: Settings) -> tuple[str, ...]:
    if not settings.max_grad_norm or not curve.grad_norm:
        return ()
    norms = [value for _, value in curve.grad_norm]
    share = sum(norm > settings.max_grad_norm for norm in norms) / len(norms)
    return (f"{share:.0%} of {len(norms)} steps were clipped, the median gradient norm is {median(norms):.3g}",)


def loss_spikes(evidence: Evidence) -> Finding | None:
    """Single steps jump out of their neighbours' losses and fall back: their rows are unlike the others.

    What counts as a jump is said in `curve.spikes`. A run whose level climbs as a whole is not spiking.
    """
    curve = evidence.curve
    if curve is None:
        return None
    found = spikes(curve)
    if not found or learning_rate_too_high(evidence) is not None or divergence(evidence) is not None:
        return None
    highest = sorted(found, key=lambda point: -point[1])[:3]
    told = [
        f"step {step}: {height:.2f} nats above its neighbours"
        + (f", rows {curve.rows_of[step]}" if step in curve.rows_of else "")
        for step, height in highest
    ]
    return Finding(
        name="loss-spikes",
        what="the loss jumps at single steps: their rows are unlike the others, or the batches are too small",
        evidence=(f"{len(found)} of {len(curve.loss)} steps", *told),
        confidence=sure(0.6 + 0.1 * len(found)),
        remedy="look at these rows; larger batches and clipped gradients make them harmless",
        patch=_softer(evidence.settings),
    )


def _softer(settings: Settings | None) -> dict[str, object]:
    if settings is None:
        return {}
    return {"train.batch_size": settings.batch_size * 2, "train.max_grad_norm": settings.max_grad_norm or 1.0}
