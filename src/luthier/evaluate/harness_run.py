"""Put lm-eval's tasks to models, and compare what they scored row by row."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from luthier.core.artifacts import Comparison, HarnessResult
from luthier.evaluate.harness import Tasks, asked, quiet
from luthier.score.paired import compare_over_seeds
from luthier.score.perplexity import perplexity
from luthier.score.scores import mean_scores
from luthier.score.verdict import in_words

SAME = 1e-6
"""How far the rows' mean may be from what the library says, as a share: beyond it, they are not what it averages."""
Way = Literal["mean", "perplexity", ""]
WRITTEN_COST = 4
"""A guess, as in `alternatives/budget.py`."""
USUAL_LONGEST = 256
"""Tokens of an answer where a task does not say."""
NAMES = ("tuned", "untuned")


class TaskScore(BaseModel):
    """One metric of one task, as the library measured it of a model."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    task: str
    metric: str
    """With the name of the filter that read the answers, where there is one."""
    value: float
    error: float | None
    """The library's standard error; None where it gives none."""
    rows: int
    higher_is_better: bool | None
    """None where the task does not say."""
    way: Way = ""
    """How the value follows from the rows: their mean, or exp(Σ loss / Σ units). Empty: not row by row."""
    per_row: tuple[tuple[float, float], ...] = ()
    """Each row's score and 1, or its loss and its units."""


def run_tasks(
    tasks: Tasks, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, resamples: int
) -> list[TaskScore]:
    """Put the tasks to a model, with the library's own prompts and without a chat template, one row at a time.

    The tokenizer becomes the library's: it may be given a padding token.
    """
    from lm_eval.models.huggingface import HFLM

    with torch.random.fork_rng():
        torch.manual_seed(tasks.seed)
        with quiet(tasks.seed):
            lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
        found = asked(tasks, lm, resamples=resamples)
    return [score for name in found["results"] for score in _scores(name, found)]


def request_tokens(tasks: Tasks, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return about how many tokens the tasks cost a model, a written one counted as several read ones."""
    total = 0
    with quiet(tasks.seed):
        for name, task in tasks.tasks.items():
            task.build_all_requests(samples=tasks.rows[name])
            for request in task.instances:
                text = "".join(part for part in request.args if isinstance(part, str))
                total += len(tokenizer.encode(text, add_special_tokens=False))
                options = request.args[-1] if isinstance(request.args[-1], dict) else None
                total += 0 if options is None else WRITTEN_COST * options.get("max_gen_toks", USUAL_LONGEST)
    return total


def compared(
    untuned: Sequence[TaskScore], tunings: Sequence[Sequence[TaskScore]], *, resamples: int, seed: int
) -> list[HarnessResult]:
    """Return both models' values beside each other and, where rows can be paired, the test; several tunings: of seeds.

    The tuned model's value is that of the first tuning; a comparison is of the mean of all.
    """
    known = [{(one.task, one.metric): one for one in scores} for scores in tunings]
    made = []
    for before in untuned:
        after = [scores[before.task, before.metric] for scores in known]
        made.append(
            HarnessResult(
                task=before.task,
                metric=before.metric,
                rows=before.rows,
                higher_is_better=before.higher_is_better,
                untuned=before.value,
                untuned_error=before.error,
                tuned=after[0].value,
                tuned_error=after[0].error,
                comparison=_comparison(before, after, resamples=resamples, seed=seed),
            )
        )
    return made


def _comparison(before: TaskScore, after: Sequence[TaskScore], *, resamples: int, seed: int) -> Comparison | None:
    """Return the paired test; None where the rows are not known, or where less of a mean is better."""
    both = [before, *after]
    if {one.way for one in both} == {"perplexity"}:
        theirs, *ours = [perplexity([x for x, _ in one.per_row], [int(n) for _, n in one.per_row]) for one in both]
        return compare_over_seeds(ours, theirs, names=NAMES, resamples=resamples, seed=seed)
    if {one.way for one in both} != {"mean"} or not before.higher_is_better:
        return None
    # The exact tests of shares go by the metric's name, which a task may choose as it likes.
    is_share = {x for one in both for x, _ in one.per_row} <= {0.0, 1.0}
    name = "accuracy" if is_share else before.metric
    theirs, *ours = [mean_scores(name, [x for x, _ in one.per_row]) for one in both]
    made = compare_over_seeds(ours, theirs, names=NAMES, resamples=resamples, seed=seed)
    made = made.model_copy(update={"metric": before.metric})
    return made.model_copy(update={"verdict": in_words(made)})


def _scores(task: str, found: Mapping[str, Any]) -> list[TaskScore]:
    """Return the metrics of a task or a group of tasks from what the library reports."""
    results, better = found["results"][task], found["higher_is_better"].get(task) or {}
    made = []
    for key, value in results.items():
        metric, comma, by = key.partition(",")
        if not comma or metric.endswith("_stderr") or not _is_number(value):
            continue
        samples = [row[metric] for row in found["samples"].get(task, ()) if row["filter"] == by and metric in row]
        way, per_row = _rows(samples, float(value))
        error = results.get(f"{metric}_stderr,{by}")
        made.append(
            TaskScore(
                task=task,
                metric=metric if by == "none" else f"{metric} ({by})",
                value=float(value),
                error=float(error) if _is_number(error) else None,
                rows=len(samples) or int(results.get("sample_len", 0) or 0),
                higher_is_better=better.get(metric),
                way=way,
                per_row=per_row,
            )
        )
    return made


def _rows(samples: Sequence[Any], value: float) -> tuple[Way, tuple[tuple[float, float], ...]]:
    """Return how a value follows from its rows, found by trying: the library says it in code only."""
    if samples and all(_is_number(one) for one in samples):
        numbers = [float(one) for one in samples]
        if _same(sum(numbers) / len(numbers), value):
            return "mean", tuple((one, 1.0) for one in numbers)
        samples = [(one, 1) for one in numbers]
    if samples and all(
        isinstance(one, tuple | list) and len(one) == 2 and all(map(_is_number, one)) for one in samples
    ):
        losses, units = [-float(one) for one, _ in samples], [float(unit) for _, unit in samples]
        mean = sum(losses) / sum(units) if min(units) >= 1 else math.inf
        if mean < 700 and _same(math.exp(mean), value):
            return "perplexity", tuple(zip(losses, units, strict=True))
    return "", ()


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=SAME, abs_tol=SAME)


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float | np.number) and math.isfinite(float(value))
