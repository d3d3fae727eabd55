"""The study: Optuna's memory of a search, kept in SQLite, and who proposes the next values."""

import contextlib
import json
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.jobs.search.space import Choice, Dimension, FloatRange, IntRange, Space
from luthier.jobs.search.strategy import COSTS, LOSS
from luthier.score.names import lower_is_better

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

FILE, NAME, OUTCOME = "study.db", "search", "outcome"
PARTS = 10
"""Losses are told to the pruner after each tenth of a training, so that trainings of other lengths can be compared."""
FIRST_WHOLE = 4
"""Trials that the median pruner lets end before it stops any."""
FIRST_PART = 2
"""Tenths of a training in which it is not stopped, for the learning rate rises then."""
DRAWN_FIRST = 8
"""Trials drawn at random before TPE models what it has seen."""
FEWEST_FOR_IMPORTANCE = 4
PICKLED = "cma:optimizer%"
"""What CMA-ES pickles of itself; without it, it computes itself anew from the trials."""


def lower(objective: str) -> bool:
    """Tell whether less of an objective is better."""
    return objective == LOSS or objective in COSTS or lower_is_better(objective)


class Study:
    """One search's trials; what is asked of Optuna is asked here."""

    def __init__(self, folder: Path, space: Space, *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.seed = space, seed
        _forget_pickles(folder / FILE)
        ways = optuna.study.StudyDirection
        directions = [ways.MINIMIZE if lower(name) else ways.MAXIMIZE for name in space.strategy.objectives]
        self.optuna: OptunaStudy = optuna.create_study(
            study_name=NAME,
            storage=optuna.storages.RDBStorage(f"sqlite:///{folder / FILE}"),
            directions=directions,
            load_if_exists=True,
            pruner=_pruner(space),
        )

    def trials(self) -> "list[FrozenTrial]":
        """Return all trials that were begun, by number."""
        from optuna.trial import TrialState

        return [trial for trial in self.optuna.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]

    def begin_with(self, own: Mapping[str, Any]) -> None:
        """Let the first trial be the recipe's own values."""
        if not self.optuna.get_trials(deepcopy=False):
            inside = self.inside(own)
            self.optuna.enqueue_trial({one.path: _encoded(one, own[one.path]) for one in inside})

    def inside(self, own: Mapping[str, Any]) -> tuple[Dimension, ...]:
        """Return all dimensions where the recipe's own values lie within the space, else none.

        A trial that knows only some of the dimensions would make Optuna forget the others.
        """
        whole = all(one.holds(own.get(one.path)) for one in self.space.dimensions)
        return self.space.dimensions if whole else ()

    def left_running(self) -> "list[Trial]":
        """Return the trials that an earlier process did not end."""
        from optuna.trial import Trial, TrialState

        self.optuna.sampler = self._sampler(0)
        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        return [Trial(self.optuna, trial._trial_id) for trial in running]

    def ask(self, number: int) -> "Trial":
        """Begin the next trial; its draws depend on the seed, its number and what is known, so a search can be cut."""
        self.optuna.sampler = self._sampler(number)
        return self.optuna.ask()

    def values_of(self, trial: "Trial", *, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a trial tries, by path; the first one tries the recipe's own values."""
        self.optuna.sampler = self._sampler(trial.number)
        dimensions = self.space.dimensions if trial.number else self.inside(own)
        with _no_developer_talk():
            suggested = {one.path: _suggested(trial, one) for one in dimensions}
        return {one.path: _decoded(one, suggested[one.path]) for one in dimensions}

    def falls_behind(self, trial: "Trial", loss: float, *, part: int) -> bool:
        """Tell the pruner a loss after so many tenths, and return whether the training should stop."""
        # The pruner knows only the study's direction: where more is better, a loss counts below zero.
        (objective,) = self.space.strategy.objectives
        with _no_developer_talk():
            trial.report(loss if lower(objective) else -loss, step=part)
        return bool(trial.number) and trial.should_prune()

    def tell(self, trial: "Trial", outcome: dict[str, Any]) -> None:
        """End a trial: with its values, stopped by the pruner, or failed."""
        from optuna.samplers import RandomSampler
        from optuna.trial import TrialState

        if self.space.strategy.type == "grid":
            # The grid's own sampler would stop a loop that Optuna runs, and this one is ours.
            self.optuna.sampler = RandomSampler()
        trial.set_user_attr(OUTCOME, outcome)
        state = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(outcome["state"], TrialState.FAIL)
        if state == TrialState.COMPLETE and not trial.params:
            # The recipe's own values lie outside the space: the sampler can learn nothing from them.
            state = TrialState.FAIL
        values = outcome["values"] if state == TrialState.COMPLETE else None
        self.optuna.tell(trial, values, state=state)

    def tried(self, trial: "FrozenTrial") -> dict[str, Any]:
        """Return what a trial was given of the space, by path."""
        return {
            one.path: _decoded(one, trial.params[one.path]) for one in self.space.dimensions if one.path in trial.params
        }

    def importance(self) -> dict[str, float]:
        """Return each dimension's share of the spread of the first objective (fANOVA); nothing after few trials."""
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        names = [one.path for one in self.space.dimensions]
        done = [
            trial for trial in self.trials() if trial.state == TrialState.COMPLETE and set(names) <= set(trial.params)
        ]
        values = {trial.values[0] for trial in done}
        moved = [name for name in names if len({trial.params[name] for trial in done}) > 1]
        if len(done) < FEWEST_FOR_IMPORTANCE or len(values) < 2 or not moved:
            return {}
        with _no_developer_talk():
            return get_param_importances(
                self.optuna,
                evaluator=FanovaImportanceEvaluator(seed=self.seed),
                params=moved,
                target=lambda trial: trial.values[0],
            )

    def _sampler(self, number: int) -> "BaseSampler":
        from optuna import samplers

        seed = self.seed + number
        match self.space.strategy.type:
            case "random":
                return samplers.RandomSampler(seed=seed)
            case "grid":
                points = {one.path: [_encoded(one, value) for value in _points(one)] for one in self.space.dimensions}
                return samplers.GridSampler(points, seed=self.seed)
            case "cmaes":
                drawn = samplers.RandomSampler(seed=seed)
                return samplers.CmaEsSampler(seed=seed, independent_sampler=drawn, warn_independent_sampling=False)
        return samplers.TPESampler(seed=seed, n_startup_trials=DRAWN_FIRST)


def _pruner(space: Space) -> "BasePruner":
    from optuna import pruners

    match space.strategy.pruner:
        case "median":
            return pruners.MedianPruner(n_startup_trials=FIRST_WHOLE, n_warmup_steps=FIRST_PART)
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=1, max_resource=PARTS)
    return pruners.NopPruner()


def _points(dimension: Dimension) -> list[Any]:
    return dimension.range.points() or []


def _suggested(trial: "Trial", dimension: Dimension) -> Any:
    """Return Optuna's value for a dimension; one it has suggested before comes again."""
    name, entry = dimension.path, dimension.range
    match entry:
        case FloatRange(low=low, high=high, log=log, step=step):
            # A last step that would go beyond the limit is left out, by Optuna as by us.
            return trial.suggest_float(name, low, high if step is None else _points(dimension)[-1], log=log, step=step)
        case IntRange(low=low, log=log, step=step):
            return trial.suggest_int(name, low, _points(dimension)[-1], log=log, step=step or 1)
        case Choice(values=values):
            return trial.suggest_categorical(name, [json.dumps(value) for value in values])


def _encoded(dimension: Dimension, value: Any) -> Any:
    """Return a value as Optuna keeps it: a choice as its JSON, since it may be a list."""
    if isinstance(dimension.range, Choice):
        return json.dumps(value)
    return float(value) if isinstance(dimension.range, FloatRange) else value


def _decoded(dimension: Dimension, value: Any) -> Any:
    if isinstance(dimension.range, Choice):
        return json.loads(value)
    return int(value) if isinstance(dimension.range, IntRange) else float(value)


@contextlib.contextmanager
def _no_developer_talk() -> Iterator[None]:
    """Keep what Optuna tells developers from the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _forget_pickles(file: Path) -> None:
    """Remove what CMA-ES has pickled into an earlier process's study: unpickling runs code, whoever wrote the file."""
    if not file.exists():
        return
    with contextlib.closing(sqlite3.connect(file)) as database, contextlib.suppress(sqlite3.OperationalError):
        database.execute("DELETE FROM trial_system_attributes WHERE key LIKE ?", (PICKLED,))
        database.commit()
