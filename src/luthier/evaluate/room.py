"""The evaluation room: the same held-out questions to the untuned and the tuned model, and what differs."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from time import perf_counter

import torch
from transformers import PreTrainedModel

from luthier.core.artifacts import HEAD_KINDS, HarnessResult, Report, Slice, Trained
from luthier.core.events import Emit, Event
from luthier.evaluate.answer import Progress, chosen_answers, written_answers
from luthier.evaluate.baselines import few_shot, zero_shot
from luthier.evaluate.baselines.read_off import read_off
from luthier.evaluate.baselines.setting import Setting
from luthier.evaluate.conclusion import LABEL_SCORED, TUNED, conclusion, seeded
from luthier.evaluate.exam import Exam, chosen_metrics, set_exam
from luthier.evaluate.harness import Tasks, load_tasks
from luthier.evaluate.harness_run import TaskScore, compared, run_tasks
from luthier.evaluate.heads.room import examine
from luthier.evaluate.instruction import an_object_like, names_all, one_of
from luthier.evaluate.render import leave
from luthier.evaluate.results import Sitting, comparisons, samples, scored, system_result
from luthier.evaluate.slices import slices
from luthier.evaluate.spec import READ_OFF, BaselineName, EvaluateSpec, baselines_for
from luthier.evaluate.user import try_user_metrics
from luthier.examples.store import Split
from luthier.model.adapter import load_tuned, ready
from luthier.model.load import context_length, load_model, load_tokenizer
from luthier.model.quick import quicken
from luthier.model.scoring import RowLoss, row_losses
from luthier.score.names import FROM_LOSSES, MetricName

BASELINES = {"zero-shot": zero_shot.requests, "few-shot": few_shot.requests}
PRICED: BaselineName = "zero-shot"
"""The baseline that stands for the untuned model's perplexity, on the prompts as they are."""
LOOKED_AT = 256
"""Training answers whose keys an instruction names."""


def run(spec: EvaluateSpec, given: Trained, out: Path, emit: Emit, *, seed: int) -> Report:
    """Put the test rows to the baselines and to the tuned model, compare them row by row, and write the report."""
    if given.prepared.answer_kind in HEAD_KINDS:
        return examine(spec, given, out, emit, seed=seed)
    started = perf_counter()
    exam = set_exam(spec, given.prepared, emit, seed=seed)
    emit(Event(room="evaluate", kind="start", message=f"{len(exam.rows)} held-out rows"))

    try_user_metrics(spec.user_metrics, exam)
    tasks = load_tasks(spec.harness, rows=spec.max_rows, seed=seed) if spec.harness else None
    desk = _Desk(spec, given, exam, emit, seed, tasks)
    metrics = chosen_metrics(spec, exam)
    sittings = [scored(sitting, exam, metrics, spec.user_metrics) for sitting in desk.baselines() + desk.tuned()]
    primary = _primary(spec, exam, metrics)
    systems = [system_result(sitting, exam, resamples=spec.resamples, seed=seed) for sitting in sittings]
    compared = comparisons(sittings, resamples=spec.resamples, seed=seed)

    report = Report(
        folder=out,
        systems=systems,
        comparisons=compared,
        primary_metric=primary,
        test_rows=len(exam.rows),
        conclusion=conclusion(systems, compared, primary),
        slices=_slices(spec, exam, sittings, primary, seed=seed),
        harness=desk.harness(),
        seconds=perf_counter() - started,
    )
    return leave(report, samples(sittings, exam), given, out, emit, facts=_facts(given, exam, seed))


def _slices(spec: EvaluateSpec, exam: Exam, sittings: Sequence[Sitting], primary: str, *, seed: int) -> list[Slice]:
    scores = next(sitting.scores for sitting in sittings if sitting.system == TUNED)
    return slices(scores[primary], exam, resamples=spec.resamples, seed=seed) if primary in scores else []


def _primary(spec: EvaluateSpec, exam: Exam, metrics: Sequence[MetricName]) -> str:
    """Return the metric that decides: one of the user's own only where no other judges answers."""
    if metrics[0] in FROM_LOSSES and spec.user_metrics and exam.asked:
        return spec.user_metrics[0].name
    return metrics[0]


class _Desk:
    """Hands the exam to one model after the other; only one is in memory at a time."""

    def __init__(
        self, spec: EvaluateSpec, given: Trained, exam: Exam, emit: Emit, seed: int, tasks: Tasks | None
    ) -> None:
        self.spec, self.given, self.exam, self.emit, self.seed = spec, given, exam, emit, seed
        self.tasks, self._task_scores = tasks, list[list[TaskScore]]()
        per_system = (1 + bool(exam.labels)) * len(exam.asked)
        usual = baselines_for(exam.kind, seq2seq=given.prepared.base.kind == "encoder-decoder")
        names = usual if spec.baselines == "auto" else tuple(dict.fromkeys(spec.baselines))
        self._names = tuple(name for name in names if name not in READ_OFF)
        self._read_off = tuple(name for name in names if name in READ_OFF and exam.asked)
        tuned = 1 + len(given.again)
        priced = (tuned + (PRICED in self._names)) * sum(len(row.answers) for row in exam.rows)
        self._total = per_system * (len(self._names) + tuned) + priced
        self._done = 0

    def baselines(self) -> list[Sitting]:
        """Let the untuned model sit the exam in each way the recipe asks for."""
        read = [self._read(name) for name in self._read_off]
        if not self._names and self.tasks is None:
            return read
        model = quicken(load_model(self.given.prepared.base.folder))
        sittings: list[Sitting] = []
        for name in self._names:
            sittings += self._sit(model, name, self._prompts(name), priced=name == PRICED)
        self._run_tasks(model, "the untuned model")
        return sittings + read

    def tuned(self) -> list[Sitting]:
        """Let the tuned model sit the exam, with the prompts it was trained on."""
        sittings: list[Sitting] = []
        for number, weights in enumerate((self.given.weights, *self.given.again)):
            name = seeded(number, self.seed + number)
            model = quicken(ready(load_tuned(self.given.prepared.base.folder, weights)))
            sittings += self._sit(model, name, self.exam.prompts, priced=True)
            self._run_tasks(model, name)
            del model
        return sittings

    def harness(self) -> list[HarnessResult]:
        """Compare what the models scored in the tasks of lm-eval; nothing where none is asked for."""
        if not self._task_scores:
            return []
        untuned, *tuned = self._task_scores
        return compared(untuned, tuned, resamples=self.spec.resamples, seed=self.seed)

    def _run_tasks(self, model: PreTrainedModel, system: str) -> None:
        if self.tasks is None:
            return
        rows = sum(map(len, self.tasks.rows.values()))
        self._note(f"{system}: {rows:,} rows of {len(self.tasks.tasks)} tasks of lm-eval")
        tokenizer = load_tokenizer(self.given.prepared.base.folder)
        self._task_scores.append(run_tasks(self.tasks, model, tokenizer, resamples=self.spec.resamples))

    def _prompts(self, name: BaselineName) -> list[list[int]]:
        exam, given = self.exam, self.given.prepared
        if not exam.asked:
            return []
        setting = Setting(
            template=exam.template,
            train=Split(given.split("train")),
            labels=exam.labels,
            wording=self._wording,
            shots=self.spec.shots,
            request_tokens=context_length(given.base.folder) - exam.max_new_tokens,
            seed=self.seed,
            note=self._note,
        )
        prompts = [exam.template.prompt_ids(asked) for asked in BASELINES[name](setting, exam.questions)]

        # What a baseline adds must not push a question out of the context.
        full = [place for place, prompt in enumerate(prompts) if len(prompt) > setting.request_tokens]
        for place in full:
            prompts[place] = exam.prompts[place]
        if full:
            self._note(f"{name}: {len(full)} questions stand alone, since more does not fit into the context")
        return prompts

    @cached_property
    def _wording(self) -> str:
        """What an untuned model must be told about the allowed answers: nothing where every prompt says it already."""
        exam = self.exam
        if exam.kind not in ("closed", "json"):
            return ""
        train = Split(self.given.prepared.split("train"))
        known = (train.example(row).answer for row in range(min(LOOKED_AT, len(train))))
        allowed = one_of(exam.labels) if exam.labels else an_object_like(known)
        return "" if all(names_all(row, allowed.names) for row in exam.questions) else allowed.wording

    def _read(self, name: BaselineName) -> Sitting:
        """Return what is read off the sources; it is no probability, and so has no perplexity."""
        return Sitting(name, read_off(name, Split(self.given.prepared.split("train")), self.exam.questions))

    def _note(self, message: str) -> None:
        self.emit(Event(room="evaluate", kind="note", message=message))

    def _sit(self, model: torch.nn.Module, system: str, prompts: list[list[int]], *, priced: bool) -> list[Sitting]:
        exam = self.exam
        losses, rejected = self._price(model, system) if priced else (None, None)
        if not prompts:
            return [Sitting(system, None, losses, rejected)] if priced else []
        sittings = [Sitting(system, written_answers(model, exam, prompts, self._hear(system, "answers")), losses)]
        if exam.labels:
            name = system + LABEL_SCORED
            sittings.append(Sitting(name, chosen_answers(model, exam, prompts, self._hear(name, "labels"))))
        return sittings

    def _price(self, model: torch.nn.Module, system: str) -> tuple[list[RowLoss], list[RowLoss] | None]:
        """Return the loss of each row and, where the rows are pairs, of each row's worse answer."""
        rows, rejected = self.exam.rows, [row.rejected for row in self.exam.rows if row.rejected]
        losses = row_losses(model, [*rows, *rejected], progress=self._hear(system, "likelihoods"))
        return losses[: len(rows)], losses[len(rows) :] or None

    def _hear(self, system: str, task: str) -> Progress:
        """Return what turns finished rows into progress events, counted over the whole evaluation."""

        def heard(rows: int) -> None:
            self._done += rows
            data = {"done": self._done, "total": self._total, "system": system, "task": task}
            self.emit(Event(room="evaluate", kind="progress", message=f"{system}: {task}", data=data))

        return heard


def _facts(given: Trained, exam: Exam, seed: int) -> dict[str, str]:
    prepared = given.prepared
    return {
        "base model": prepared.base.name,
        "base weights": prepared.base.weights_sha256[:16],
        "adapter": f"{given.adapter}, {given.trainable_parameters:,} of {given.total_parameters:,} parameters",
        "training": f"{given.best_step} of {given.steps} steps on {prepared.rows.get('train', 0):,} rows",
        "data": prepared.data_sha256[:16],
        "answers": exam.kind,
        "longest answer": f"{exam.max_new_tokens} tokens",
        "seed": str(seed),
    }
