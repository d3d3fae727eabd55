"""The user's own metrics, in the evaluation: which program each is, and what it is told about a row."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.errors import RecipeError
from luthier.core.files import sha256_of
from luthier.evaluate.spec import EvaluateSpec, UserMetric
from luthier.score.scores import Scores
from luthier.score.user_metric import MetricRow, Program, python_program, shell_program, user_scores

if TYPE_CHECKING:
    from luthier.evaluate.exam import Exam


def check_user_metrics(spec: EvaluateSpec | None) -> None:
    """Look for the files of the user's metrics before anything slow is begun."""
    for place, metric in enumerate(spec.user_metrics if spec else ()):
        if metric.python is not None and not Path(metric.python).is_file():
            where = {"field": f"evaluate.user_metrics[{place}].python", "file": metric.python}
            raise RecipeError(f"there is no file for the metric `{metric.name}`", where=where)


def sources_of(spec: EvaluateSpec) -> list[str]:
    """Return hashes of the files of the user's metrics: a file that changed is another metric."""
    files = [Path(metric.python) for metric in spec.user_metrics if metric.python is not None]
    return [sha256_of(file) for file in files if file.is_file()]


def try_user_metrics(metrics: Sequence[UserMetric], exam: "Exam") -> None:
    """Let each metric score one right answer, so that a mistake in it shows before the models are asked."""
    if exam.asked:
        for metric in metrics:
            user_scores(_program(metric), _rows(exam, exam.references)[:1])


def score_by_user(metrics: Sequence[UserMetric], exam: "Exam", answers: Sequence[str]) -> dict[str, Scores]:
    """Return the scores of a system's answers in each of the user's metrics."""
    if not metrics:
        return {}
    rows = _rows(exam, answers)
    return {metric.name: user_scores(_program(metric), rows) for metric in metrics}


def _program(metric: UserMetric) -> Program:
    if metric.python is not None:
        return python_program(metric.name, metric.python, timeout_s=metric.timeout_s)
    return shell_program(metric.name, metric.command or "", timeout_s=metric.timeout_s)


def _rows(exam: "Exam", answers: Sequence[str]) -> list[MetricRow]:
    asked = zip(exam.asked, exam.questions, exam.references, answers, strict=True)
    decode = exam.template.tokenizer.decode
    return [
        MetricRow(
            name=f"{Path(example.file).name}:{example.row}",
            prompt=str(decode(exam.rows[row].ids[: exam.rows[row].prompt_tokens])),
            answer=answer,
            reference=reference,
            row=example.model_dump(mode="json"),
        )
        for row, example, reference, answer in asked
    ]
