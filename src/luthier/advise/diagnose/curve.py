"""Reading curves: levels, falls and steps that stand out, by medians, which single batches do not move."""

from statistics import fmean, median

from luthier.advise.diagnose.evidence import Curve, Series

FEWEST_STEPS = 20
"""With fewer updates a curve has no shape that noise could not give it."""
WINDOW = 5
"""The shortest window of steps whose median is taken as a level."""
ROBUST = 1.4826
"""Median absolute deviation times this is the standard deviation of normal noise."""
SPIKE_SIGMAS = 8.0
SPIKE_SHARE = 0.1
SPIKE_NATS = 0.5
AROUND = 5
"""Steps on each side that say what a step's loss should have been."""


def too_short(curve: Curve) -> str | None:
    """Return why a curve cannot be read yet."""
    if len(curve.loss) < FEWEST_STEPS:
        return f"the shape of a curve needs {FEWEST_STEPS} steps, and {len(curve.loss)} are measured so far"
    return None


def start_of(curve: Curve) -> float:
    """Return the untuned model's loss: the validation at step 0, or else the first batch's."""
    if curve.validation and curve.validation[0][0] == 0:
        return curve.validation[0][1]
    return curve.loss[0][1]


def levels(series: Series) -> Series:
    """Return the median over a moving window of a twentieth of the steps, at least five."""
    width = max(WINDOW, len(series) // 20)
    values = [value for _, value in series]
    return tuple((series[i][0], median(values[i - width + 1 : i + 1])) for i in range(width - 1, len(series)))


def watched(curve: Curve) -> Series:
    """Return the curve on which learning is judged: the validation's, or the training levels where there is none."""
    return curve.validation if len(curve.validation) >= 4 else levels(curve.loss)


def late_share(curve: Curve) -> float:
    """Return which share of the whole fall came in the last third: a third on a straight line, nothing at the end."""
    series = watched(curve)
    last = series[-1][0]
    before = [value for step, value in series if step <= last * 2 / 3] or [series[0][1]]
    fall = start_of(curve) - series[-1][1]
    return max(0.0, before[-1] - series[-1][1]) / fall if fall > 0 else 0.0


def fallen_share(curve: Curve) -> float:
    """Return by which share the loss has fallen from the untuned model's."""
    start = start_of(curve)
    return (start - watched(curve)[-1][1]) / start if start > 0 else 0.0


def noise(series: Series) -> float:
    """Return the standard deviation of single steps, from the differences of neighbours, so that no trend counts."""
    values = [value for _, value in series]
    steps = [after - before for before, after in zip(values, values[1:], strict=False)]
    middle = median(steps)
    return ROBUST * median(abs(step - middle) for step in steps) / 2**0.5


def mean_between(series: Series, low: float, high: float) -> float | None:
    """Return the mean of the values whose step is in (low, high]."""
    values = [value for step, value in series if low < step <= high]
    return fmean(values) if values else None


def spikes(curve: Curve) -> Series:
    """Return the steps whose loss jumps out of its neighbours' and falls back: (step, height above them).

    A jump counts from eight robust standard deviations of the neighbourhood (the losses of batches have heavy
    tails, so three would be noise), and from half a nat and a tenth of the untuned loss, so that a well learned run
    with a tiny spread does not count small hills.
    """
    found, least = [], max(SPIKE_NATS, SPIKE_SHARE * start_of(curve))
    values = [value for _, value in curve.loss]
    for i, (step, value) in enumerate(curve.loss):
        near = values[max(0, i - AROUND) : i] + values[i + 1 : i + 1 + AROUND]
        if i < AROUND or not near:
            continue
        level = median(near)
        spread = ROBUST * median(abs(other - level) for other in near)
        if value - level > max(SPIKE_SIGMAS * spread, least):
            found.append((step, value - level))
    return tuple(found)
