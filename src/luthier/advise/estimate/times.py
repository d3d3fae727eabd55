"""How long each part of a plan takes, from what was measured here."""

import math

from luthier.advise.estimate.fit import Line, fit
from luthier.advise.estimate.measured import Measured, Sample, Steps
from luthier.advise.estimate.work import Shape, Work

ANSWERS, LIKELIHOODS = "answers", "likelihoods"
TUNED = "tuned"


def backward_line(steps: Steps, timed: tuple[Shape, ...]) -> Line:
    """Return the seconds of one micro-batch, forward and backward, by its load."""
    shapes = (timed[1:] or timed)[: len(steps.backward_seconds)]
    return fit([shape.load(steps) for shape in shapes], steps.backward_seconds)


def forward_line(work: Work, steps: Steps, timed: tuple[Shape, ...]) -> Line:
    """Return the seconds of one micro-batch without gradients, by its load."""
    first = max(work.watched, key=lambda shape: shape.tokens, default=timed[0])
    shapes = (first, *timed[1:3])[: len(steps.forward_seconds)]
    return fit([shape.load(steps) for shape in shapes], steps.forward_seconds)


def step_seconds(work: Work, steps: Steps, timed: tuple[Shape, ...]) -> float:
    """Return the seconds of all optimiser steps alone."""
    line = backward_line(steps, timed)
    return work.stretch * _sum(line, work.micro_batches, steps) + work.steps * steps.update_seconds


def train_seconds(work: Work, steps: Steps, timed: tuple[Shape, ...]) -> float:
    """Return the seconds of training without its validations: start, reference, steps, checkpoints, weights."""
    saves = work.checkpoints * steps.checkpoint_seconds + (work.snapshots + 1) * steps.weights_seconds
    once = steps.start_seconds + reference_seconds(work, steps, timed) + step_seconds(work, steps, timed) + saves
    return work.trainings * once


def reference_seconds(work: Work, steps: Steps, timed: tuple[Shape, ...]) -> float:
    """Return the seconds in which the untuned model prices pairs."""
    passes = work.referenced_rows / max(1, work.sampled_rows)
    return passes * _sum(forward_line(work, steps, timed), work.micro_batches, steps)


def validate_seconds(work: Work, steps: Steps, timed: tuple[Shape, ...]) -> float:
    """Return the seconds of all validations."""
    return work.trainings * work.validations * _sum(forward_line(work, steps, timed), work.watched, steps)


def evaluate_seconds(work: Work, measured: Measured) -> float:
    """Return the seconds of the evaluation, from two small ones."""
    samples = measured.samples
    if not samples:
        return 0.0
    tasks = sum(_task_seconds(work, samples, place) for place in range(len(samples[0].tasks)))
    return _rest(samples) + tasks


def _rest(samples: tuple[Sample, ...]) -> float:
    """Return what does not depend on the rows: loading libraries and models, writing reports; the first is as cold."""
    return max(0.0, samples[0].seconds - sum(task.seconds for task in samples[0].tasks))


def _task_seconds(work: Work, samples: tuple[Sample, ...], place: int) -> float:
    task = samples[0].tasks[place]
    line = fit([sample.rows for sample in samples], [sample.tasks[place].seconds for sample in samples])
    if task.name != ANSWERS:
        return line(work.test_rows)
    whole, left = divmod(work.test_rows, work.rows_per_batch)
    seconds = whole * line(work.rows_per_batch) + (line(left) if left else 0.0)
    return work.trainings * seconds * _sooner(work, samples[-1]) if task.system == TUNED else seconds


def _sooner(work: Work, sample: Sample) -> float:
    """Return the share of the time that a model which has learnt to stop needs for its answers.

    Reading the questions takes as long as pricing them did; the rest is writing, token by token.
    """
    told = {task.name: task.seconds for task in sample.tasks if task.system == TUNED}
    if not sample.runs_on or not told.get(ANSWERS):
        return 1.0
    reading = min(1.0, told.get(LIKELIHOODS, 0.0) / told[ANSWERS])
    return reading + (1 - reading) * min(1.0, (work.answer_tokens + 1) / max(1, work.most_new_tokens))


def _sum(line: Line, shapes: tuple[Shape, ...], steps: Steps) -> float:
    return math.fsum(line(shape.load(steps)) for shape in shapes)
