"""Ask: the exam set once for a base model, and every alternative put to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from luthier.core.artifacts import HarnessResult, Prepared, Trained
from luthier.core.events import Emit, Event
from luthier.evaluate.alternatives.budget import Budget
from luthier.evaluate.alternatives.desk import Desk, Result
from luthier.evaluate.alternatives.forgetting import General, general
from luthier.evaluate.alternatives.questions import question
from luthier.evaluate.alternatives.tasks import before_and_after
from luthier.evaluate.alternatives.untuned import Untuned
from luthier.evaluate.baselines.setting import Setting
from luthier.evaluate.exam import Exam, chosen_metrics, set_exam
from luthier.evaluate.instruction import an_object_like, names_all, one_of
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.store import Split
from luthier.model.load import context_length
from luthier.score.names import MetricName

LOOKED_AT = 256
"""Training answers whose keys an instruction names."""


@dataclass(frozen=True)
class Question:
    """What all alternatives are given."""

    goal: str | None
    """Told to untuned models."""
    passages: Sequence[str]
    rows: int
    """Held-out rows at most."""
    seed: int


class Alternatives:
    """The measurements on one base model."""

    def __init__(self, asked: Question, given: Prepared, budget: Budget, folder: Path, emit: Emit) -> None:
        self.asked, self.given, self.emit = asked, given, emit
        self._folder = folder / "answers"
        self.exam: Exam = set_exam(EvaluateSpec(max_rows=asked.rows), given, emit, seed=asked.seed)
        self.metric: MetricName = chosen_metrics(EvaluateSpec(), self.exam)[0]
        self.desk = Desk(given, self.exam, self.metric, budget, folder, emit)

    @property
    def results(self) -> list[Result]:
        """What was measured so far, in that order."""
        return self.desk.results

    @property
    def shown(self) -> list[tuple[str, str, int]]:
        """Each held-out row's question, answer and number of turns."""
        return [(question(row), row.answer, max(2, len(row.messages))) for row in self.exam.examples]

    def untuned(self) -> None:
        """Measure what trains nothing, the cheapest first."""
        if not self.exam.asked:
            self.desk.price("the untuned model", "prompt")
            return
        untuned = self._untuned
        tries: list[Callable[[], object]] = [untuned.trivial, untuned.zero_shot]
        tries += [untuned.heads] if self.exam.labels else []
        tries += [untuned.few_shot, untuned.near_shot]
        tries += [untuned.retrieval] if self.asked.passages else []
        for attempt in tries:
            attempt()

    def tuned(self, name: str, trained: Trained) -> None:
        """Measure a tuned model with the prompts it was trained on."""
        if self.exam.asked:
            self.desk.ask(name, "tune", self.exam.prompts, trained)
        else:
            self.desk.price(name, "tune", trained)

    def tuned_again(self, name: str, seed: int, trained: Trained) -> None:
        """Measure the tuning of that name after a training with another seed."""
        before = len(self.desk.results)
        self.tuned(f"{name} (seed {seed})", trained)
        found = self.desk.results[before:]
        del self.desk.results[before:]
        self.desk.again(name, found)

    def tuned_with_passages(self, name: str, trained: Trained) -> None:
        """Measure a tuned model that also gets passages of the documents."""
        prompts = [self.exam.template.prompt_ids(row) for row in self._untuned.with_passages]
        self.desk.ask(name, "tune + retrieve", prompts, trained)

    def general(self, trained: Trained | None = None) -> General:
        """Put the general probes to the untuned or a tuned model."""
        return general(self.desk.tuned(trained) if trained else self.desk.base, self.exam.template)

    def tasks(self, names: Sequence[str], trained: Trained) -> list[HarnessResult]:
        """Put tasks of lm-eval to the untuned and a tuned model; nothing where the budget does not allow it."""
        rows, seed = self.asked.rows, self.asked.seed
        return before_and_after(self.desk, names, trained, self._folder, rows=rows, seed=seed)

    def answer_tokens(self, result: Result) -> float:
        """Return the mean tokens of an alternative's answers."""
        texts = result.answers.texts if result.answers else []
        encode = self.exam.template.tokenizer.encode
        return sum(len(encode(text, add_special_tokens=False)) for text in texts) / max(1, len(texts))

    @cached_property
    def _untuned(self) -> Untuned:
        setting = Setting(
            template=self.exam.template,
            train=Split(self.given.split("train")),
            labels=self.exam.labels,
            wording=self._wording(),
            shots="auto",
            request_tokens=context_length(self.given.base.folder) - self.exam.max_new_tokens,
            seed=self.asked.seed,
            note=lambda message: self.emit(Event(room="evaluate", kind="note", message=message)),
        )
        return Untuned(self.desk, setting, self.asked.passages)

    def _wording(self) -> str:
        """Say what an untuned model must be told: the goal, and which answers are allowed."""
        exam, allowed = self.exam, ""
        if exam.kind in ("closed", "json"):
            train = Split(self.given.split("train"))
            known = (train.example(row).answer for row in range(min(LOOKED_AT, len(train))))
            ways = one_of(exam.labels) if exam.labels else an_object_like(known)
            allowed = "" if all(names_all(row, ways.names) for row in exam.questions) else ways.wording
        return "\n".join(filter(None, (self.asked.goal, allowed)))
