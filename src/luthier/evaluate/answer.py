"""Answer: put the exam to a model, by writing answers or by choosing among the labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from luthier.evaluate.exam import Exam
from luthier.model.bitext import Bitext
from luthier.model.generate import generate
from luthier.model.scoring import score_labels
from luthier.model.seq2seq import write

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Answers:
    """What one system answered to the questions of the exam, in their order."""

    texts: list[str]
    stopped: list[bool]
    """Whether each answer ended by itself."""
    prompt_tokens: float
    """Mean tokens of a request."""
    latency_s: float
    """Mean seconds per answer, batched."""


def written_answers(model: torch.nn.Module, exam: Exam, prompts: Sequence[list[int]], progress: Progress) -> Answers:
    """Let the model write its answers, greedily."""
    started = perf_counter()
    most, template = exam.max_new_tokens, exam.template
    if isinstance(template, Bitext):
        said = write(model, template, prompts, max_new_tokens=most, progress=progress)
    else:
        said = generate(model, template, prompts, max_new_tokens=most, progress=progress)
    texts, stopped = [exam.read(answer.text) for answer in said], [answer.stopped for answer in said]
    return _answers(texts, stopped, prompts, started)


def chosen_answers(model: torch.nn.Module, exam: Exam, prompts: Sequence[list[int]], progress: Progress) -> Answers:
    """Take for each question the label that the model finds likeliest as the whole answer."""
    started = perf_counter()
    best = [scores.best for scores in score_labels(model, prompts, exam.label_ids, progress=progress)]
    return _answers(best, [True] * len(best), prompts, started)


def _answers(texts: list[str], stopped: list[bool], prompts: Sequence[list[int]], started: float) -> Answers:
    latency = (perf_counter() - started) / len(prompts)
    return Answers(texts, stopped, sum(map(len, prompts)) / len(prompts), latency)
