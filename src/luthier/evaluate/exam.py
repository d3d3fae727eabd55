"""Exam: the held-out rows, what is asked and what is right, made once and put to every system."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from luthier.core.artifacts import AnswerKind, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Emit, Event
from luthier.evaluate.instruction import BLANK_LINE, with_answer
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.example import Example
from luthier.examples.store import Encoded, Split
from luthier.model.bitext import Bitext, target_of, words_of
from luthier.model.template import THOUGHT, Template
from luthier.score.names import FROM_LOSSES, MetricName, metrics_for
from luthier.score.squad import fitting, read_accepted

MARGIN_TOKENS = 12
"""Room for a sentence around a short answer, when no longest answer is set."""


@dataclass(frozen=True)
class Exam:
    """The test rows and how their answers are judged."""

    template: Template | Bitext
    rows: list[Encoded]
    examples: list[Example]
    asked: list[int]
    """The rows that a system answers in writing: those with a prompt and one answer; the others are only priced."""
    kind: AnswerKind
    labels: tuple[str, ...]
    max_new_tokens: int

    @property
    def questions(self) -> list[Example]:
        """The examples that are asked."""
        return [self.examples[row] for row in self.asked]

    @property
    def references(self) -> list[str]:
        """The right answer to each question."""
        return [self.reference(row) for row in self.asked]

    def reference(self, row: int) -> str:
        """The right answer to a row, in the words in which a model's answer is read."""
        answer, encoded = self.examples[row].answer, self.rows[row]
        if isinstance(self.template, Bitext):
            return target_of(self.examples[row])
        # A call of a tool is text only once it is rendered, and a thought is no part of an answer.
        if answer and THOUGHT not in answer:
            return answer
        return self.template.text(encoded.ids[encoded.prompt_tokens :])

    @property
    def accepted(self) -> list[tuple[str, ...]]:
        """All right answers to each question: several, or none where the text does not say it."""
        return [
            example.accepted if example.quotes is not None else read_accepted([self.reference(row)])[0]
            for row, example in zip(self.asked, self.questions, strict=True)
        ]

    def rejected(self, row: int) -> str | None:
        """The worse answer to a row, where the row is a pair."""
        encoded = self.rows[row].rejected
        return None if encoded is None else self.template.text(encoded.ids[encoded.prompt_tokens :])

    @cached_property
    def prompts(self) -> list[list[int]]:
        """The questions' token ids, exactly as they were trained."""
        return [self.rows[row].ids[: self.rows[row].prompt_tokens] for row in self.asked]

    @cached_property
    def ends_at_blank_line(self) -> bool:
        """Whether an answer ends at a blank line: in text without turns nothing else tells an untuned model to stop."""
        if isinstance(self.template, Bitext):
            return False
        without_turns = any(example.segments for example in self.questions)
        return without_turns and not any(BLANK_LINE in reference.strip() for reference in self.references)

    def read(self, text: str) -> str:
        """Return what counts of a written answer, the same for every system."""
        return text.lstrip().partition(BLANK_LINE)[0] if self.ends_at_blank_line else text

    @cached_property
    def label_ids(self) -> dict[str, list[int]]:
        """Each label's token ids as a trained answer, end of turn included."""
        labelled = {label: self.template.encode(with_answer(self.questions[0], label)) for label in self.labels}
        return {label: row.ids[row.prompt_tokens :] for label, row in labelled.items()}


def set_exam(spec: EvaluateSpec, given: Prepared, emit: Emit, *, seed: int) -> Exam:
    """Draw the test rows and look at what can be asked."""
    split = held_out(given, emit)
    drawn = sorted(np.random.default_rng(seed).permutation(len(split))[: spec.max_rows].tolist())
    rows = [(encoded, split.example(row)) for row in drawn if any((encoded := split.encoded(row)).targets[1:])]
    if not rows:
        raise DataError("no test row has a token to predict", where={"folder": given.folder})
    if len(rows) < len(drawn):
        _note(emit, f"{len(drawn) - len(rows)} test rows have no token to predict and are left out")
    # A token that begins every text, or the words that begin every answer, are no prompt.
    prompted = [i for i, (row, example) in enumerate(rows) if row.prompt_tokens and example.context is not None]
    is_asked = given.answer_kind not in ("pair", "text")
    asked = prompted if is_asked else []
    if is_asked and len(asked) < len(rows):
        _note(emit, f"{len(rows) - len(asked)} test rows have no prompt: only their perplexity is measured")
    return Exam(
        template=words_of(given.base.folder),
        rows=[row for row, _ in rows],
        examples=[example for _, example in rows],
        asked=asked,
        kind=given.answer_kind if asked or not is_asked else "text",
        labels=_labels(given),
        max_new_tokens=_longest_answer(given) if spec.max_new_tokens == "auto" else spec.max_new_tokens,
    )


def _labels(given: Prepared) -> tuple[str, ...]:
    # Answers may be written with white space around them (` yes`), which is no part of the label.
    return tuple(sorted({label.strip() for label in given.labels})) if given.answer_kind == "closed" else ()


def held_out(given: Prepared, emit: Emit) -> Split:
    """Return the test split; where it is empty the validation split, with a warning."""
    test = Split(given.split("test"))
    if len(test):
        return test
    validation = Split(given.split("validation"))
    if not len(validation):
        hint = "set `data.split.test`, or give `data.test_path`"
        raise DataError("there are no held-out rows to measure on", where={"folder": given.folder}, hint=hint)
    why = "they also chose the best weights, which flatters the tuned model"
    message = f"the test split is empty: the validation rows are used, and {why}"
    emit(Event(room="evaluate", kind="warning", message=message))
    return validation


def _longest_answer(given: Prepared) -> int:
    train = Split(given.split("train"))
    lengths = (len(row.ids) - row.prompt_tokens for row in map(train.encoded, range(len(train))))
    longest = max(lengths, default=0)
    return longest + max(MARGIN_TOKENS, longest // 4)


def _note(emit: Emit, message: str) -> None:
    emit(Event(room="evaluate", kind="note", message=message))


def chosen_metrics(spec: EvaluateSpec, exam: Exam) -> list[MetricName]:
    """Return the metrics to compute, the primary one first; those from losses, perplexity last, are always measured."""
    usual = metrics_for(exam.kind)
    asked_for = usual if spec.metrics == "auto" or not exam.asked else spec.metrics
    answered = dict.fromkeys(metric for metric in asked_for if metric not in FROM_LOSSES)
    if exam.kind == "accepted":
        answered = dict.fromkeys(fitting(tuple(answered), exam.accepted))
    return [*answered, *(metric for metric in usual if metric in FROM_LOSSES)]
