"""Compare an export, run in its own engine, with the tuned model, and say whether it passed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.core.certificate import Certificate, Difference, Divergence, Measured, Share
from luthier.core.errors import LuthierError
from luthier.core.events import Emit, Event
from luthier.jobs.export.diverging import divergence
from luthier.jobs.export.hearing import ask_all
from luthier.jobs.export.said import Said
from luthier.jobs.export.source import SEED, Question, Source
from luthier.jobs.export.words import wrong_words
from luthier.serve.request import Engine

if TYPE_CHECKING:
    from luthier.model.generate import Answer

EXACT = frozenset({"merged", "adapter", "bundle", "onnx", "gguf"})
"""Forms that keep every weight: they must say the same, up to the rounding of fp32."""
MOST_EXACT = 1e-7
"""Mean divergence of an exact form, in nats per token. Other kernels in fp32 give 1e-14 to 1e-10, llama.cpp's table for
GELU 1e-8, and one layer's weights off by 1 % 5e-7 and more."""
MOST_QUANTISED = 0.1
"""Mean divergence of a quantised form where no metric judges it."""
SAME_ANSWERS = 0.98
"""Share of greedy answers that an exact form must give byte for byte; the rest are ties that rounding decides."""
STOPS_LESS = 0.02
"""By how much the share of answers that end by themselves may fall."""
LIKE_BASE = 0.5
"""From this part of the untuned model's divergence on, the tuning itself is missing or another's."""
SHOWN = 300
"""Characters of a prompt or an answer that are shown."""


@dataclass(frozen=True)
class Limits:
    """What an export may differ by."""

    exact: bool
    max_drop: float
    """How much worse the metric may be, in its own unit."""


def certify(  # noqa: PLR0913 (what is compared, with what, and how)
    source: Source,
    said: Said,
    engine: Engine,
    limits: Limits,
    *,
    title: str,
    adapter: Path | None,
    emit: Emit,
    folder: Path | None = None,
) -> Certificate:
    """Ask the engine what the tuned model was asked, and compare; an engine that fails on the way has not passed.

    `folder` is where the model's own files lie: those of the tokenizer are looked at, too.
    """
    started = time.perf_counter()
    draft = Certificate(
        result="failed", prompts=source.asked.what, engine=title, max_drop=None if limits.exact else limits.max_drop
    )
    try:
        found = _compared(draft, source, said, engine, adapter=adapter, emit=emit)
    except LuthierError as error:
        why = f": {error.why}" if error.why else ""
        found = draft.model_copy(update={"reasons": (f"it does not run: {error.what}{why}",)})
    else:
        told = wrong_words(source, folder) if folder else []
        reasons = (*told, *_reasons(found, source, said, engine, limits))
        found = found.model_copy(update={"reasons": reasons, "result": "failed" if reasons else "passed"})
    return found.model_copy(update={"seconds": time.perf_counter() - started})


def _compared(
    draft: Certificate, source: Source, said: Said, engine: Engine, *, adapter: Path | None, emit: Emit
) -> Certificate:
    asked = source.asked
    rendered, ids, differs = _templated(source, engine)

    total, done = len(asked.questions), 0

    def heard(rows: int) -> None:
        nonlocal done
        done += rows
        told = {"done": done, "total": total, "system": draft.engine, "task": "answers"}
        emit(Event(room="export", kind="progress", message=f"{draft.engine} answers", data=told))

    prompts = [question.ids for question in asked.questions]
    answers = ask_all(
        engine, source.template, prompts, max_new_tokens=asked.max_new_tokens, adapter=adapter, progress=heard
    )
    same = [ours.text == theirs.text for ours, theirs in zip(said.answers, answers, strict=True)]
    if differs is None and not all(same):
        differs = _answer_differs(source, said.answers, answers, same.index(False))
    return draft.model_copy(
        update={
            "rendered": rendered,
            "ids": ids,
            "answers": Share(count=sum(same), of=total),
            "source_stops": _stops(said.answers),
            "export_stops": _stops(answers),
            "divergence": _divergence(source, said, engine, adapter),
            "measured": _measured(source, said.answers, answers, draft.engine),
            "longest_prompt_tokens": len(asked.longest.ids),
            "longest_works": _works(engine, source, asked.longest, adapter),
            "differs": differs,
        }
    )


def _templated(source: Source, engine: Engine) -> tuple[Share | None, Share | None, Difference | None]:
    """Compare the prompts as the engine itself renders them, and the tokens it makes of them."""
    rendered = ids = of = 0
    differs: Difference | None = None
    for question in source.asked.questions:
        if question.example is None:
            continue
        of += 1
        expected = source.template.rendered(question.example)
        text = engine.render(*source.template.worded(question.example))
        rendered += text == expected
        if text != expected:
            differs = differs or _difference("the rendered prompt", expected, expected, text)
            continue
        tokens = engine.encode(text)
        ids += tokens == question.ids
        if tokens != question.ids:
            differs = differs or _difference("the prompt's tokens", expected, str(question.ids), str(tokens))
    return (Share(count=rendered, of=of), Share(count=ids, of=of), differs) if of else (None, None, None)


def _difference(check: str, prompt: str, expected: str, got: str) -> Difference:
    """Return what differs, from a little before the first character that does."""
    at = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got)))
    begin = max(0, at - SHOWN // 4)
    cut = slice(begin, begin + SHOWN)
    return Difference(check=check, prompt=prompt[-SHOWN:], expected=expected[cut], got=got[cut])


def _answer_differs(source: Source, ours: "Sequence[Answer]", theirs: "Sequence[Answer]", place: int) -> Difference:
    prompt = source.template.tokenizer.decode(source.asked.questions[place].ids)
    return _difference("the answer", prompt, ours[place].text, theirs[place].text)


def _stops(answers: "Sequence[Answer]") -> Share:
    return Share(count=sum(answer.stopped for answer in answers), of=len(answers))


def _divergence(source: Source, said: Said, engine: Engine, adapter: Path | None) -> Divergence | None:
    questions = source.asked.questions
    theirs = [engine.chances(questions[row].ids, said.answers[row].ids, adapter) for row in said.rows]
    found = divergence(said.chances, theirs)
    return found.model_copy(update={"base_mean": said.base_divergence})


def _works(engine: Engine, source: Source, longest: Question, adapter: Path | None) -> bool:
    try:
        ask_all(engine, source.template, [longest.ids], max_new_tokens=1, adapter=adapter)
    except LuthierError:
        return False
    return len(longest.ids) < engine.context


def _measured(source: Source, ours: "Sequence[Answer]", theirs: "Sequence[Answer]", title: str) -> Measured | None:
    """Score both systems' answers with the run's primary metric."""
    from luthier.evaluate.answer import Answers
    from luthier.evaluate.exam import chosen_metrics
    from luthier.evaluate.results import Sitting, scored
    from luthier.score.names import FROM_LOSSES
    from luthier.score.paired import compare

    exam = source.asked.exam
    if exam is None:
        return None
    metric = next((name for name in chosen_metrics(source.evaluate, exam) if name not in FROM_LOSSES), None)
    if metric is None:
        return None

    def sitting(name: str, answers: "Sequence[Answer]") -> Sitting:
        texts, stopped = [exam.read(one.text) for one in answers], [one.stopped for one in answers]
        return scored(Sitting(name, Answers(texts, stopped, 0.0, 0.0)), exam, [metric])

    a, b = (sitting(name, answers).scores[metric] for name, answers in ((title, theirs), ("tuned", ours)))
    compared = compare(a, b, names=(title, "tuned"), resamples=source.evaluate.resamples, seed=SEED)
    return Measured(
        metric=metric,
        source=b.value,
        export=a.value,
        difference=compared.difference,
        low=compared.low,
        high=compared.high,
        rows=len(exam.asked),
    )


def _reasons(found: Certificate, source: Source, said: Said, engine: Engine, limits: Limits) -> list[str]:
    """Return why an export did not pass; what explains the others comes first."""
    reasons = [*_of_words(found, source, said, engine), *_of_weights(found, limits)]
    ours, theirs = found.source_stops, found.export_stops
    if ours and theirs and ours.count - theirs.count > allowed_stops(ours, limits):
        reasons.append(f"{theirs} answers end by themselves; of the tuned model's, {ours}")
    if not found.longest_works:
        reasons.append(f"the longest prompt, {found.longest_prompt_tokens:,} tokens, gets no answer")
    return reasons


def allowed_stops(ours: Share, limits: Limits) -> float:
    """Return how many answers fewer may end by themselves; of few prompts, one may where weights were rounded."""
    return max(STOPS_LESS * ours.of, 0 if limits.exact else 1)


def _of_words(found: Certificate, source: Source, said: Said, engine: Engine) -> list[str]:
    reasons: list[str] = []
    if found.rendered and not found.rendered.whole:
        wrong = found.rendered.of - found.rendered.count
        reasons.append(f"its chat template is another: {wrong} of {found.rendered.of} prompts are rendered differently")
    if found.rendered and found.ids and found.ids.count < found.rendered.count:
        reasons.append(_of_tokens(found, source, engine))
    ends = _used_ends(source, said) | {source.template.end_of_turn_id}
    lost = sorted(ends - engine.stop_ids)
    if lost:
        names = ", ".join(f"`{source.template.tokenizer.convert_ids_to_tokens(token)}` ({token})" for token in lost)
        reasons.append(f"{names}, with which the tuned model ends its answers, does not end them in its engine")
    return reasons


def _of_tokens(found: Certificate, source: Source, engine: Engine) -> str:
    """Say how the tokens differ; a token that is put before every prompt is the usual way."""
    wrong = f"{found.rendered.count - found.ids.count} of {found.ids.of} prompts"
    question = next(one for one in source.asked.questions if one.example and _encoded(source, engine, one) != one.ids)
    tokens = _encoded(source, engine, question)
    extra = len(tokens) - len(question.ids)
    if extra > 0 and tokens[extra:] == question.ids:
        names = source.template.tokenizer.convert_ids_to_tokens(tokens[:extra])
        twice = ", which stands there twice then" if tokens[:extra] == question.ids[:extra] else ""
        return f"its tokenizer puts {' '.join(f'`{name}`' for name in names)} before {wrong}{twice}"
    return f"its tokenizer makes other tokens of {wrong}"


def _encoded(source: Source, engine: Engine, question: Question) -> list[int]:
    return engine.encode(source.template.rendered(question.example)) if question.example else question.ids


def _used_ends(source: Source, said: Said) -> frozenset[int]:
    """Return the tokens with which the tuned model ends those of its answers whose chances are known."""
    pairs = zip(said.rows, said.chances, strict=True)
    ends = {int(chances[-1].argmax()) for row, chances in pairs if said.answers[row].stopped}
    return frozenset(ends & source.template.stop_ids)


def _of_weights(found: Certificate, limits: Limits) -> list[str]:
    """Judge what the weights do: next-token chances, answers, and the metric."""
    reasons: list[str] = []
    diverged, measured = found.divergence, found.measured
    judged_by_metric = not limits.exact and measured is not None
    most = MOST_EXACT if limits.exact else MOST_QUANTISED
    if diverged and diverged.mean > most and not judged_by_metric:
        reasons.append(_of_divergence(diverged, most))
    if limits.exact and found.answers and found.answers.value < SAME_ANSWERS:
        reasons.append(f"only {found.answers} greedy answers are the tuned model's")
    if judged_by_metric and -measured.difference > limits.max_drop:
        drop = f"{-measured.difference:.4f} ({-measured.high:.4f} to {-measured.low:.4f})"
        reasons.append(f"its {measured.metric} is {drop} lower; at most {limits.max_drop:g} is allowed")
    return reasons


def _of_divergence(diverged: Divergence, most: float) -> str:
    numbers = f"its next-token chances diverge by {diverged.mean:.2g} nats per token (at most {most:g})"
    base = diverged.base_mean
    if base is not None and diverged.mean >= LIKE_BASE * base:
        return f"the tuning is missing, or another's: {numbers}, as the untuned model's do ({base:.2g})"
    beside = f"; the untuned model's diverge by {base:.2g}" if base is not None else ""
    return f"its weights are not the tuned model's: {numbers}{beside}"


def limits_of(name: str, *, max_drop: float) -> Limits:
    """Return what an export of this name may differ by."""
    return Limits(exact=name in EXACT, max_drop=max_drop)


def not_run(source: Source, why: str) -> Certificate:
    """Return the certificate of an export that cannot run on this machine."""
    return Certificate(result="not run here", reasons=(why,), prompts=source.asked.what)
