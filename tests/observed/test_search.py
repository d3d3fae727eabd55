"""Every word of a space file changes which values are tried, or how the trials are judged."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.search.made import Bench
from tests.observed.seen import Cases, Change, unseen

from luthier.core.spec import Spec
from luthier.jobs.search.space import Choice, FloatRange, IntRange
from luthier.jobs.search.strategy import Strategy

RATE = {"type": "float", "low": 1e-5, "high": 1e-2}
RANK = {"type": "int", "low": 2, "high": 32}
CHOICE = {"type": "choice", "values": [4, 8, 16]}
CASES: Cases = {
    Strategy: {
        "type": "cmaes",
        "num_trials": 4,
        "pruner": Change("median", {"num_trials": 9}),
        "objectives": ("seconds",),
    },
    FloatRange: {"low": 1e-4, "high": 1e-3, "log": True, "step": 1e-3},
    IntRange: {"low": 16, "high": 4, "log": True, "step": 7},
    Choice: {"values": (4, 5)},
}
USUAL: dict[type[Spec], dict[str, Any]] = {
    Strategy: {"type": "random", "num_trials": 3},
    FloatRange: RATE,
    IntRange: RANK,
    Choice: CHOICE,
}


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_every_field_of_a_space_is_seen_in_the_trials(kind: type[Spec], tmp_path: Path) -> None:
    number = itertools.count()

    def trials_of(spec: Spec) -> Any:
        written = json.loads(spec.model_dump_json())
        strategy = written if kind is Strategy else {"type": "random", "num_trials": 3}
        ranges = {"learning_rate": RATE | {"log": True}, "lora_r": RANK}
        if kind is not Strategy:
            ranges["learning_rate" if kind is FloatRange else "lora_r"] = written
        space = json.dumps({"search_strategy": strategy, "search_space": ranges})
        result = Bench(tmp_path / str(next(number)), space).search()
        values = [trial.values for trial in result.trials if trial.state == "done"]
        return [(trial.tried, trial.state) for trial in result.trials], values, result.best, result.front

    assert unseen(kind, CASES[kind], trials_of, **USUAL[kind]) == []
