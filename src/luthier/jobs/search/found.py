"""From the study to what it found: every trial, the best, and whether the difference could be noise."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.core.artifacts import Comparison
from luthier.jobs.search.desk import Desk
from luthier.jobs.search.result import OWN, Searched, TrialResult, number_text, objective_title, tried_text
from luthier.jobs.search.space import Choice, Dimension
from luthier.jobs.search.strategy import COSTS, LOSS
from luthier.jobs.search.study import OUTCOME, Study, lower
from luthier.score.names import is_proportion
from luthier.score.paired import compare
from luthier.score.perplexity import perplexity
from luthier.score.scores import Scores, mean_scores
from luthier.score.verdict import difference_text, in_words, outcome

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

RESAMPLES = 2000
OWN_NAME = "the recipe's own values"
FLATTERS = "The best of many trials looks better than it is: `luthier run best.yaml` measures it on the test rows."


def found(desk: Desk, study: Study) -> Searched:
    """Return what a search has found so far."""
    trials = [_result(desk, study, trial) for trial in study.trials()]
    objectives = desk.space.strategy.objectives
    done = [trial for trial in trials if trial.state == "done"]
    front = _front(done, objectives)
    best = min(front, key=lambda trial: (_signed(trial, objectives)[0], trial.number)) if front else None
    own = next((trial for trial in trials if trial.number == OWN), None)
    comparison = _comparison(desk, best, own, others=len(done) - 1) if best and own else None
    return Searched(
        folder=desk.folder.absolute(),
        objectives=objectives,
        sampler=desk.space.strategy.type,
        pruner=desk.space.strategy.pruner,
        asked=desk.space.trials,
        validation_rows=desk.prepared.rows["validation"],
        dimensions={one.path: _range_text(one) for one in desk.space.dimensions},
        trials=trials,
        best=best.number if best else None,
        front=[trial.number for trial in front] if len(objectives) > 1 else [],
        importance=study.importance(),
        comparison=comparison,
        conclusion=_conclusion(desk, best, own, comparison),
    )


def _result(desk: Desk, study: Study, trial: "FrozenTrial") -> TrialResult:
    known: dict[str, Any] = trial.user_attrs.get(OUTCOME) if trial.state.is_finished() else None
    tried = desk.own if trial.number == OWN else study.tried(trial)
    if known is None:
        return TrialResult(number=trial.number, state="unfinished", tried=tried)
    kept = {name: value for name, value in known.items() if name in TrialResult.model_fields}
    return TrialResult(number=trial.number, tried=tried, **kept)


def _signed(trial: TrialResult, objectives: Sequence[str]) -> list[float]:
    """Return a trial's values so that less is better."""
    pairs = zip(objectives, trial.values, strict=True)
    return [value if lower(name) else -value for name, value in pairs]


def _front(done: Sequence[TrialResult], objectives: Sequence[str]) -> list[TrialResult]:
    """Return the trials that no other beats: as good in every objective, and better in one."""
    values = {trial.number: _signed(trial, objectives) for trial in done}

    def beaten(number: int) -> bool:
        own = values[number]
        return any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in values.values())

    return [trial for trial in done if not beaten(trial.number)]


def _comparison(desk: Desk, best: TrialResult, own: TrialResult, *, others: int) -> Comparison | None:
    """Compare the best trial with the recipe's own values on the same rows, where rows have scores of their own.

    The best was chosen among so many: p is multiplied by their number (Bonferroni).
    """
    if best.number == OWN or own.state != "done":
        return None
    name = desk.space.strategy.objectives[0]
    pair = [_scores(desk.trial_folder(trial.number), name) for trial in (best, own)]
    if pair[0] is None or pair[1] is None:
        return None
    names = (f"trial {best.number}", OWN_NAME)
    one = compare(pair[0], pair[1], names=names, resamples=RESAMPLES, seed=desk.recipe.seed)
    one = one.model_copy(update={"p": min(1.0, one.p * max(1, others))})
    return one.model_copy(update={"verdict": in_words(one)})


def _scores(folder: Path, objective: str) -> Scores | None:
    """Return what each validation row scored; None where the objective is none of single rows."""
    if objective == LOSS:
        path = folder / "judged.json"
        losses = json.loads(path.read_text(encoding="utf-8"))["losses"] if path.exists() else []
        return perplexity([total for total, _ in losses], [tokens for _, tokens in losses]) if losses else None
    samples = folder / "judged" / "samples.jsonl"
    if not is_proportion(objective) or not samples.exists():
        return None
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return mean_scores(objective, [row["answers"]["tuned"]["scores"][objective] for row in rows])


def _conclusion(desk: Desk, best: TrialResult | None, own: TrialResult | None, comparison: Comparison | None) -> str:
    if best is None:
        return "No trial has ended yet; `--resume` goes on."
    name, rows = desk.space.strategy.objectives[0], f"{desk.prepared.rows['validation']:,} validation rows"
    title, reached = objective_title(name), number_text(best.values[0])
    if best.number == OWN:
        return f"No trial is better than the recipe's own values ({title} {reached} on {rows})."
    chosen = f"Trial {best.number} ({tried_text(best.tried)}) has the best {title}, {reached} on {rows}"
    if own is None or own.state != "done":
        return f"{chosen}; the recipe's own values did not end, so there is nothing to compare it with. {FLATTERS}"
    noise = _noise(best, own, name, comparison)
    return f"{chosen}, against {number_text(own.values[0])} of the recipe's own values. {noise} {FLATTERS}"


def _noise(best: TrialResult, own: TrialResult, name: str, comparison: Comparison | None) -> str:
    """Say whether the difference could be noise."""
    if comparison is not None:
        sure = "That is more than noise" if outcome(comparison) == "better" else "The difference could be noise"
        rows = f"{comparison.won} rows won, {comparison.lost} lost"
        return f"{sure}: {difference_text(comparison)} (p counts the trials); {rows}."
    if best.values == own.values:
        return "There is no difference."
    if name in COSTS:
        return "Costs are as measured, without an interval."
    mine, theirs = best.intervals.get(name), own.intervals.get(name)
    if mine is None or theirs is None:
        return "How much of that is noise is not known: this loss has no scores of single rows."
    overlap = mine[0] <= theirs[1] and theirs[0] <= mine[1]
    return f"The 95 % intervals {'overlap: the difference could be noise' if overlap else 'do not overlap'}."


def _range_text(dimension: Dimension) -> str:
    entry = dimension.range
    if isinstance(entry, Choice):
        return f"one of {', '.join(json.dumps(value) for value in entry.values)}"
    words = [f"{entry.low:g} to {entry.high:g}"]
    words += ["by powers"] if entry.log else []
    words += [f"in steps of {entry.step:g}"] if entry.step is not None else []
    return ", ".join(words)
