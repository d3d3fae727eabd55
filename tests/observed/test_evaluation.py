"""Every field of the evaluation changes the report, the answers, or which metrics refuse to go on."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.test_harness import CHOOSE, ROWS
from tests.evaluate.test_room import Heard, trained
from tests.observed.seen import Cases, Change, unseen

from luthier.core.artifacts import Trained
from luthier.evaluate import room
from luthier.evaluate.spec import EvaluateSpec, UserMetric

TWO, THREE = (f"while read -r line; do echo {number}; done" for number in (2, 3))
SLOW = f"sleep 0.5; {TWO}"
CASES: Cases = {
    EvaluateSpec: {
        "baselines": ("zero-shot",),
        "metrics": ("macro_f1",),
        "user_metrics": (UserMetric(name="mine", command=TWO),),
        "harness": ("choose.yaml",),
        "shots": Change(2, {"baselines": ("few-shot",)}),
        "max_rows": 4,
        "max_new_tokens": 2,
        "resamples": 300,
    },
    UserMetric: {
        "name": "other",
        "python": Change("three.py", {"python": "two.py", "command": None}),
        "command": THREE,
        "timeout_s": Change(0.1, {"command": SLOW, "timeout_s": 30.0}),
    },
}
USUAL = {"resamples": 200, "max_new_tokens": 4, "baselines": ()}
CLOCKED = ("latency_s", "seconds", "folder", "inputs_sha256", "created_at")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").mkdir()
    return trained(folder, "closed", sizes=(8, 2, 6))


@pytest.fixture
def told_by(given: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[EvaluateSpec], Any]:
    """Return what measures a model, and tells all that no clock decides."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "choose.yaml").write_text(CHOOSE)
    (tmp_path / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, value in (("two", 2.0), ("three", 3.0)):
        (tmp_path / f"{name}.py").write_text(f"def score(prompt, answer, reference, row):\n    return {value}\n")
    number = itertools.count()

    def told(spec: EvaluateSpec) -> Any:
        out = tmp_path / str(next(number))
        report = room.run(spec, given, out, Heard(), seed=7)
        return timeless(report.model_dump(mode="json")), (out / "samples.jsonl").read_text()

    return told


def timeless(value: Any) -> Any:
    """Return a report without what a clock or a folder's name decides."""
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in CLOCKED}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def test_every_field_of_the_evaluation_is_seen_in_its_report(told_by) -> None:
    pytest.importorskip("lm_eval")
    assert told_by(EvaluateSpec(**USUAL)) == told_by(EvaluateSpec(**USUAL))
    assert unseen(EvaluateSpec, CASES[EvaluateSpec], told_by, **USUAL) == []


def test_every_field_of_a_metric_of_the_users_own_is_seen(told_by) -> None:
    def measured(metric: UserMetric) -> Any:
        return told_by(EvaluateSpec(**USUAL, user_metrics=(metric,)))

    assert unseen(UserMetric, CASES[UserMetric], measured, name="mine", command=TWO) == []
