"""Advise: the lesson's four questions, each answered with facts measured on the user's rows."""

import dataclasses
import math
import time
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.advise.facts import Facts
from luthier.advise.verdict.costs import Request, break_even, per_thousand
from luthier.advise.verdict.curve import Gain, Point, extrapolate
from luthier.advise.verdict.decide import FEWEST_ROWS, Measured, Test, Verdict, decide
from luthier.advise.verdict.prices import Prices
from luthier.advise.verdict.task import Asked, Task, recognise
from luthier.core.artifacts import Base, HarnessResult, Prepared
from luthier.core.errors import DataError
from luthier.core.events import Emit, Event
from luthier.core.files import write_atomic
from luthier.evaluate.alternatives.budget import ANSWER_COST, FLOP_PER_S_AND_CORE, FLOP_PER_TOKEN, Budget, halvings
from luthier.evaluate.harness import check_harness
from luthier.examples.store import Split
from luthier.jobs.advise.documents import read_passages
from luthier.jobs.advise.kept import keep_advice, kept_advice, key_of_call
from luthier.jobs.advise.pilots import Pilot, Pilots
from luthier.jobs.advise.report import write_report
from luthier.jobs.advise.result import Advised, Alternative, Forgotten, MoreRows, OfBase
from luthier.jobs.advise.wanted import Wanted
from luthier.jobs.estimate import estimate_plan
from luthier.jobs.looking import first_recipe, with_fitting_method
from luthier.jobs.plan import resolve
from luthier.jobs.prepare import check_sources, refuse_heads
from luthier.jobs.rooms import Rooms, real_rooms
from luthier.jobs.stage import stage
from luthier.recipe import Recipe
from luthier.recipe_io.read import recipe_from
from luthier.score.intervals import estimate
from luthier.score.names import MetricName, lower_is_better, title_of
from luthier.score.verdict import estimate_text, number_text
from luthier.train.spec import check_base

if TYPE_CHECKING:
    from luthier.evaluate.alternatives.asking import Alternatives
    from luthier.evaluate.alternatives.desk import Result

VALIDATION, TEST = 0.1, 0.2
"""Shares of the rows: more is held out than in a run, since what is wanted is a comparison."""
FEWEST_HELD_OUT = 50
ZERO_SHOT_SHARE = 0.03
"""Of the budget, what one pass over the held-out questions may take at most."""
TUNING_SHARE = 0.5
"""Of the budget, what is kept for tunings while the alternatives are measured."""
ESTIMATE_S = 45.0
"""What estimating the full run takes, about."""
RESAMPLES = 2000
WORTHWHILE_SHARE = 0.02
WORTHWHILE_HUNDRED = 2.0
HUNDRED = ("chrf", "bleu")


def advise(wanted: Wanted, emit: Emit, *, rooms: Rooms | None = None) -> Advised:
    """Measure the alternatives within the budget and return the verdict; everything lies in `wanted.out`."""
    started = time.monotonic()
    passages = read_passages(wanted.documents) if wanted.documents else []
    split = {"validation": VALIDATION, "test": TEST}
    asked_for = {"data": {"path": list(wanted.files), "split": split}, "seed": wanted.seed}
    recipe = with_fitting_method(recipe_from(asked_for, wanted.overrides))
    refuse_heads(recipe, "advise")
    check_sources(recipe)
    doors = rooms or real_rooms()
    share = wanted.budget_s / len(wanted.base_models)
    asked = [
        _OnBase(wanted, recipe.model_copy(update={"base_model": name}), passages, doors, Budget(share), emit)
        for name in wanted.base_models
    ]
    for one in asked:
        check_base(recipe.train.method, one.base)
    key = key_of_call(wanted, recipe, [one.base for one in asked], passages)
    kept = kept_advice(wanted.out, key)
    if kept is not None:
        emit(Event(room="jobs", kind="note", message=f"the same was asked before: the answer lies in {wanted.out}"))
        return kept
    check_harness(wanted.harness, where="--harness")
    found = [one.measure() for one in asked]
    best = _best(asked, found)
    advised = Advised(
        goal=wanted.goal,
        task=asked[0].task.kind,
        task_because=asked[0].task.because,
        metric=asked[0].metric,
        rows=asked[0].prepared.rows,
        held_out=len(asked[0].asked.exam.rows),
        bases=tuple(found),
        base_model=best.base_model,
        choice=best.choice,
        verdict=_in_words(best, asked[0].metric),
        folder=wanted.out,
        recipe=wanted.out / "recipe.yaml",
        seconds=time.monotonic() - started,
        budget_s=wanted.budget_s,
    )
    chosen = recipe.model_copy(update={"base_model": best.base_model})
    write_atomic(advised.recipe, first_recipe(chosen, advised.recipe, emit, rooms=doors))
    write_atomic(wanted.out / "advice.json", advised.model_dump_json(indent=2) + "\n")
    write_report(advised)
    keep_advice(wanted.out, key)
    return advised


class _OnBase:
    """The measurements on one base model, and what follows from them."""

    def __init__(
        self, wanted: Wanted, recipe: Recipe, passages: list[str], rooms: Rooms, budget: Budget, emit: Emit
    ) -> None:
        self.wanted, self.recipe, self.passages = wanted, recipe, passages
        self.rooms, self.budget, self.emit = rooms, budget, emit
        self.folder = wanted.out.absolute() / "work" / recipe.base_model.strip("/").replace("/", "-")

    @cached_property
    def base(self) -> Base:
        return self.rooms.base(self.recipe.base_model, self.emit)

    @cached_property
    def facts(self) -> Facts:
        return self.rooms.facts(self.recipe, self.base, self.emit)

    @cached_property
    def prepared(self) -> Prepared:
        prepared = stage(
            self.folder / "data",
            Prepared,
            lambda out: self.rooms.data(self.recipe.data, self.base, out, self.emit, seed=self.recipe.seed),
            inputs=[self.recipe.data, self.recipe.seed, self.base.weights_sha256, _sizes(self.wanted.files)],
            emit=self.emit,
        )
        held_out = prepared.rows.get("test", 0)
        if held_out < FEWEST_ROWS:
            need = math.ceil(FEWEST_ROWS / TEST)
            raise DataError(
                "there are too few rows for any statement",
                where={"file": ", ".join(self.wanted.files)},
                why=f"{held_out} rows can be held out, and with fewer than {FEWEST_ROWS} no difference would show",
                hint=f"gather about {need} different rows or more",
            )
        return prepared

    @cached_property
    def asked(self) -> "Alternatives":
        from luthier.evaluate.alternatives.asking import Alternatives, Question

        question = Question(self.wanted.goal, self.passages, self._held_out(), self.recipe.seed)
        return Alternatives(question, self.prepared, self.budget, self.folder, self.emit)

    def _held_out(self) -> int:
        """Return how many rows are asked: halved until one pass over them is cheap beside the budget."""
        facts, all_rows = self.facts, self.prepared.rows["test"]
        rate = FLOP_PER_S_AND_CORE * facts.machine.cores
        tokens = facts.data.mean_tokens + ANSWER_COST * facts.data.longest_answer_tokens
        affordable = self.budget.seconds * ZERO_SHOT_SHARE * rate / (FLOP_PER_TOKEN * facts.model.parameters * tokens)
        return int(halvings(min(self.wanted.held_out, all_rows), affordable, least=min(FEWEST_HELD_OUT, all_rows)))

    @property
    def metric(self) -> MetricName:
        return self.asked.metric

    @cached_property
    def task(self) -> Task:
        return recognise(self.asked.exam.kind, [Asked(*row) for row in self.asked.shown])

    @property
    def test(self) -> Test:
        usual = WORTHWHILE_HUNDRED if self.metric in HUNDRED else WORTHWHILE_SHARE
        worthwhile = usual if self.wanted.worthwhile is None else self.wanted.worthwhile
        return Test(worthwhile, RESAMPLES, self.recipe.seed)

    def measure(self) -> OfBase:
        """Measure from the cheapest to the dearest, and decide."""
        self.budget.reserved = self.budget.seconds * TUNING_SHARE
        self.asked.untuned()
        self.budget.reserved = 0.0
        pilots = Pilots(self.asked, self.recipe, self.facts, self.rooms, self.folder, self.wanted.seeds)
        pilots.run()
        last = pilots.done[-1] if pilots.done else None
        if last and self.passages:
            self.asked.tuned_with_passages(f"{last.name} + retrieval", last.trained)
        forgotten = self._forgotten(last)
        tasks = self._tasks(last)
        gain = self._gain(2.0)
        measured = [_measured(result) for result in _without_small_pilots(self.asked.results)]
        verdict = decide(measured, gain, self.test, whole=self._to_all())
        if verdict.choice == "data" and not pilots.done:
            unseen = f"tuning was not measured, and may do what the others do not: {self._why_no_tuning()}"
            verdict = dataclasses.replace(verdict, reasons=(*verdict.reasons, unseen))
        return self._of_base(verdict, gain, forgotten, last).model_copy(update={"harness": tasks})

    def _why_no_tuning(self) -> str:
        reasons = [why for what, why in self.budget.left_out.items() if what.startswith("tun")]
        return reasons[0] if reasons else "the rows are too few"

    def _forgotten(self, last: Pilot | None) -> Forgotten | None:
        if last is None or not self.budget.allows("what tuning makes it forget", 0.0):
            return None
        before, after = self.asked.general(), self.asked.general(last.trained)
        return Forgotten(
            perplexity_before=before.perplexity,
            perplexity_after=after.perplexity,
            right_before=before.right,
            right_after=after.right,
            questions=before.questions,
        )

    def _tasks(self, last: Pilot | None) -> tuple[HarnessResult, ...]:
        if not self.wanted.harness:
            return ()
        if last is None:
            self.budget.left_out["tasks of lm-eval"] = "no tuning was measured"
            return ()
        return tuple(self.asked.tasks(self.wanted.harness, last.trained))

    def _points(self) -> list[Point]:
        """Return each pilot's better way of answering: written, or chosen among the labels."""
        best: dict[int, Point] = {}
        for result in self.asked.results:
            if result.train_rows is None or result.family != "tune":
                continue
            point, known = Point(result.train_rows, result.mean), best.get(result.train_rows)
            if known is None or _better(point.scores.value, known.scores.value, self.metric):
                best[result.train_rows] = point
        return list(best.values())

    def _gain(self, times: float) -> Gain | None:
        return extrapolate(self._points(), times=times, resamples=RESAMPLES, seed=self.recipe.seed)

    def _to_all(self) -> Gain | None:
        """Return what tuning on all rows would bring beyond the largest pilot."""
        rows = self.prepared.rows["train"]
        largest = max((point.rows for point in self._points()), default=rows)
        return self._gain(rows / largest) if largest < rows else None

    def _of_base(self, verdict: Verdict, gain: Gain | None, forgotten: Forgotten | None, last: Pilot | None) -> OfBase:
        alternatives = tuple(self._alternative(result) for result in self.asked.results)
        return OfBase(
            base_model=self.recipe.base_model,
            choice=verdict.choice,
            chosen=verdict.chosen,
            reasons=verdict.reasons,
            sensitivity=verdict.sensitivity,
            comparisons=verdict.comparisons,
            alternatives=alternatives,
            more_rows=MoreRows(times=gain.times, value=gain.value, low=gain.low, high=gain.high) if gain else None,
            forgotten=forgotten,
            costs=self._costs(last),
            benefits=_benefits(alternatives, last, self.prepared, self.wanted.prices, forgotten),
            left_out=dict(self.budget.left_out),
        )

    def _alternative(self, result: "Result") -> Alternative:
        answers = result.answers
        written = self.asked.answer_tokens(result)
        prompt_tokens, seconds = (answers.prompt_tokens, answers.latency_s) if answers else (0.0, 0.0)
        prompted = result.family in ("prompt", "few-shot", "retrieve")
        request = Request(prompt_tokens, written, seconds)
        return Alternative(
            name=result.name,
            family=result.family,
            value=estimate(result.mean, resamples=RESAMPLES, seed=self.recipe.seed),
            prompt_tokens=prompt_tokens,
            latency_s=seconds,
            cost_per_1000=per_thousand(request, self.wanted.prices, hosted=prompted),
            seconds=result.seconds + result.again_seconds,
            trainings=1 + len(result.again),
            train_rows=result.train_rows,
            train_seconds=result.train_seconds,
        )

    def _costs(self, last: Pilot | None) -> dict[str, str]:
        """Return whether the base can be tuned here, and what it would take."""
        facts, prepared = self.facts, self.prepared
        plan = resolve(self.recipe, facts)
        said = {
            "licence": self.base.licence or "its model card names none: look before you use it",
            "model": f"{facts.model.parameters / 1e6:,.0f} M parameters, {facts.model.layers} layers",
            "context": f"{prepared.context_tokens:,} tokens; the longest row has {prepared.longest:,}",
            "rows": ", ".join(f"{name} {count:,}" for name, count in prepared.rows.items()),
            "memory here": f"{facts.machine.available_bytes / 1e9:.1f} GB free",
        }
        if prepared.labels:
            train = Split(prepared.split("train"))
            counts = Counter(train.example(row).answer.strip() for row in range(len(train)))
            rarest = min(prepared.labels, key=lambda label: counts[label.strip()])
            said["labels"] = f"{len(prepared.labels)}; the rarest, {rarest!r}, has {counts[rarest.strip()]:,} rows"
        if last:
            minutes = last.trained.seconds * prepared.rows["train"] / last.rows / 60
            said["training on all rows"] = f"about {minutes:.1f} min here, as the pilot on {last.rows:,} rows took"
        if self.budget.allows("memory, minutes and disk of the full run", ESTIMATE_S):
            full = estimate_plan(plan, self.base, prepared, self.emit)
            said["the full run"] = (
                f"about {full.total_seconds / 60:.1f} min with its measurement, {full.peak_memory_bytes / 1e9:.1f} GB "
                f"of memory, {full.disk_bytes / 1e6:,.0f} MB of disk; it {'fits' if full.fits else 'does not fit'} here"
            )
        return said


def _best(asked: list[_OnBase], found: list[OfBase]) -> OfBase:
    """Return the base model whose chosen alternative is best; the first of equals."""
    sign = 1 if lower_is_better(asked[0].metric) else -1
    return min(found, key=lambda one: sign * one.best.value.value)


def _better(a: float, b: float, metric: str) -> bool:
    return a < b if lower_is_better(metric) else a > b


def _without_small_pilots(results: "list[Result]") -> "list[Result]":
    """Return the results with the largest tuning only: smaller ones are there for the learning curve."""
    largest = max((result.train_rows or 0 for result in results), default=0)
    return [result for result in results if result.train_rows in (None, largest)]


def _benefits(
    alternatives: tuple[Alternative, ...],
    last: Pilot | None,
    prepared: Prepared,
    prices: Prices,
    forgotten: Forgotten | None,
) -> dict[str, str]:
    """Return what a tuning saves, when it has paid for itself, and what it makes the model forget."""
    said: dict[str, str] = {}
    tuned = [one for one in alternatives if one.family == "tune" and last and one.train_rows == last.rows]
    prompted = [one for one in alternatives if one.family in ("few-shot", "retrieve")]
    if last and tuned and prompted:
        ours = min(tuned, key=lambda one: one.cost_per_1000)
        other = max(prompted, key=lambda one: one.value.value)
        saved = other.prompt_tokens - ours.prompt_tokens
        if saved > 0 and other.prompt_tokens:
            said["prompt tokens saved"] = (
                f"{saved:,.0f} a request against {other.name} ({saved / other.prompt_tokens:.0%} of them)"
            )
        hours = last.trained.seconds * prepared.rows["train"] / last.rows / 3600
        spent = hours * prices.machine_hour
        requests = break_even(spent, before=other.cost_per_1000, after=ours.cost_per_1000)
        said["break-even against " + other.name] = (
            f"after {requests:,} requests: training costs about {spent:.3f}, and 1,000 requests "
            f"{ours.cost_per_1000:.4f} instead of {other.cost_per_1000:.4f}"
            if requests is not None
            else f"never: 1,000 requests cost {ours.cost_per_1000:.4f} instead of {other.cost_per_1000:.4f}"
        )
    if forgotten:
        said["what it forgets"] = (
            f"plain texts: perplexity {forgotten.perplexity_before:.1f} before, {forgotten.perplexity_after:.1f} "
            f"after; of {forgotten.questions} easy questions {forgotten.right_before} right before, "
            f"{forgotten.right_after} after"
        )
    return said


def _in_words(found: OfBase, metric: str) -> str:
    opening = {
        "prompt": "Do not fine-tune: instructions are enough",
        "few-shot": "Do not fine-tune: examples in the prompt are enough",
        "retrieve": "Do not fine-tune: let the model look into your documents",
        "head": "Do not fine-tune the model: a small head on its frozen vectors is enough",
        "tune": "Fine-tune",
        "tune + retrieve": "Fine-tune, and let the model look into your documents",
        "data": "Neither yet: get more or better data first",
    }[found.choice]
    best = found.best
    said = (
        f"{opening}. {best.name} reaches {title_of(metric)} {estimate_text(metric, best.value)} on {best.value.n} rows"
    )
    rivals = [one for one in found.alternatives if one.family != best.family and one.family != "trivial"]
    if rivals:
        pick = min if lower_is_better(metric) else max
        rival = pick(rivals, key=lambda one: one.value.value)
        said += f"; the best of the others, {rival.name}, {number_text(metric, rival.value.value)}"
    return said + "."


def _measured(result: "Result") -> Measured:
    tokens = result.answers.prompt_tokens if result.answers else 0.0
    return Measured(result.name, result.family, result.scores, tokens, result.again)


def _sizes(files: tuple[str, ...]) -> list[object]:
    paths = [Path(file) for file in files]
    return [[path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else str(path) for path in paths]
