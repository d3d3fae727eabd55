import json
from pathlib import Path

import pytest
from tests.jobs.search.made import RECIPE, SPACE, Bench, FakeWorker, tried

from luthier.core.errors import DataError, Interrupted, RecipeError, TrainingError
from luthier.core.yaml import read_yaml
from luthier.jobs.plan import value_at
from luthier.recipe_io.read import load_recipe

OWN = {"train.learning_rate": 1e-4, "train.adapter.r": 8}


def test_the_recipes_own_values_come_first_and_the_best_becomes_a_recipe(tmp_path: Path) -> None:
    result = Bench(tmp_path).search(trials=6)
    own, best = result.trial(0), result.trial(result.best)
    assert own.tried == OWN and own.state == "done" and len(result.trials) == 7 and result.finished
    assert best.values[0] == min(trial.values[0] for trial in result.trials) < own.values[0]
    recipe = load_recipe(result.recipe)
    assert {path: value_at(recipe, path) for path in OWN} == best.tried
    assert "was 0.0001" in result.recipe.read_text()


def test_a_recipe_that_no_trial_beats_stays_as_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SPACE.replace("low: 1e-5, high: 1e-2", "low: 1e-6, high: 1e-5"))
    result = bench.search()
    assert result.best == 0 and "No trial is better than the recipe's own values" in result.conclusion
    assert value_at(load_recipe(result.recipe), "train.learning_rate") == 1e-4


def test_the_test_rows_are_never_handed_to_a_trial(tmp_path: Path) -> None:
    Bench(tmp_path).search()
    for worker in FakeWorker.made:
        held_out = Path(worker.asked["held_out"]["folder"]) / "examples"
        assert (held_out / "test.arrow").read_text() == "validation"
        assert worker.asked["prepared"]["folder"] == str(tmp_path / "out" / "data")


def test_a_better_trial_is_compared_row_by_row_and_p_counts_the_trials(tmp_path: Path) -> None:
    few, many = (Bench(tmp_path / str(n)).search(trials=n) for n in (3, 8))
    assert many.comparison.won == 100 and many.comparison.p > few.comparison.p > 0
    assert "That is more than noise" in few.conclusion and "luthier run best.yaml" in few.conclusion


def test_a_search_that_was_cut_goes_on_with_the_same_trials(tmp_path: Path) -> None:
    whole = Bench(tmp_path / "whole").search()
    bench = Bench(tmp_path / "cut")
    FakeWorker.breaks_at = 2
    with pytest.raises(Interrupted, match="stopped"):
        bench.search()
    with pytest.raises(RecipeError, match="unfinished search"):
        bench.search()
    again = bench.search(resume=True)
    assert [(one.tried, one.values) for one in again.trials] == [(one.tried, one.values) for one in whole.trials]
    assert [worker.trial for worker in FakeWorker.made] == [0, 1, 2, 2, 3, 4]


def test_more_trials_are_added_to_a_finished_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.search()
    more = bench.search(trials=6)
    assert tried(more)[:5] == tried(first) and len(more.trials) == 7


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.search()
    with pytest.raises(RecipeError, match="another search"):
        bench.search(overrides=("train.steps=50",))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("")
    with pytest.raises(RecipeError, match="no search"):
        bench.search(out="thesis")


def test_a_grid_has_each_point_once_and_the_recipes_own_point_is_not_trained_twice(tmp_path: Path) -> None:
    space = "search_strategy: {type: grid, num_trials: 99}\nsearch_space:\n"
    space += "  learning_rate: {type: choice, values: [1e-4, 1e-3]}\n  lora_r: {type: int, low: 4, high: 12, step: 4}\n"
    result = Bench(tmp_path, space).search()
    points = {(one["train.learning_rate"], one["train.adapter.r"]) for one in tried(result)[1:]}
    assert points == {(rate, rank) for rate in (1e-4, 1e-3) for rank in (4, 8, 12)} and result.asked == 6
    assert len(FakeWorker.made) == 6 and result.trial(result.best).tried["train.adapter.r"] == 12


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_samplers_stay_within_the_space_and_repeat_with_the_seed(tmp_path: Path, sampler: str) -> None:
    one, two = (Bench(tmp_path / name).search(sampler=sampler, trials=10) for name in "ab")
    assert tried(one) == tried(two) and len({json.dumps(values) for values in tried(one)}) > 9
    for values in tried(one):
        assert 1e-5 <= values["train.learning_rate"] <= 1e-2 and 2 <= values["train.adapter.r"] <= 32


def test_cmaes_keeps_no_pickle_that_a_later_process_would_open(tmp_path: Path) -> None:
    import sqlite3

    from luthier.jobs.search.study import _forget_pickles

    Bench(tmp_path).search(sampler="cmaes", trials=9)
    file = tmp_path / "out" / "study.db"
    count = "SELECT COUNT(*) FROM trial_system_attributes WHERE key LIKE 'cma:optimizer%'"
    assert sqlite3.connect(file).execute(count).fetchone()[0] > 0
    _forget_pickles(file)
    assert sqlite3.connect(file).execute(count).fetchone()[0] == 0


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_trainings_that_fall_behind_are_stopped_but_never_the_recipes_own(tmp_path: Path, pruner: str) -> None:
    result = Bench(tmp_path).search(pruner=pruner, trials=9)
    states = {trial.number: trial.state for trial in result.trials}
    stopped = [worker.trial for worker in FakeWorker.made if worker.stopped]
    assert stopped == [number for number, state in states.items() if state == "pruned"] and stopped
    assert states[0] == "done" and all("fell behind" in result.trial(number).why for number in stopped)
    assert result.best not in stopped


def test_several_objectives_give_a_front(tmp_path: Path) -> None:
    # Here a lower loss takes longer, and all weights are of one size.
    opposed = Bench(tmp_path / "a").search(objectives=("validation_loss", "seconds"))
    assert opposed.front == [0, 1, 2, 3, 4] and opposed.best in opposed.front
    settled = Bench(tmp_path / "b").search(objectives=("validation_loss", "adapter_bytes"))
    assert settled.front == [settled.best] and settled.best == opposed.best


def test_a_failed_trial_is_told_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    FakeWorker.fails = (1, 3)
    result = bench.search()
    assert [trial.state for trial in result.trials] == ["done", "failed", "done", "failed", "done"]
    assert result.trial(1).why == "broken with status 1"


def test_a_search_without_hope_gives_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    FakeWorker.fails = tuple(range(9))
    with pytest.raises(TrainingError, match="all of the first 3 trials failed"):
        bench.search()
    assert len(FakeWorker.made) == 3


def test_values_outside_the_space_are_measured_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SPACE.replace("low: 2, high: 32", "low: 16, high: 32"))
    result = bench.search(sampler="cmaes", trials=6)
    assert result.trial(0).tried == OWN and result.trial(0).state == "done"
    assert len({trial.tried["train.learning_rate"] for trial in result.trials}) == 7


def test_auto_values_are_shown_as_the_plan_resolves_them(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        SPACE.replace("learning_rate", "batch_size").replace(
            "float, low: 1e-5, high: 1e-2, log: true", "choice, values: [4, auto]"
        ),
    )
    result = bench.search()
    assert isinstance(result.trial(0).tried["train.batch_size"], int)


def test_a_block_is_searched_by_its_name(tmp_path: Path) -> None:
    space = "search_space:\n  schedule: {type: choice, values: [cosine, linear]}\n"
    result = Bench(tmp_path, space).search(sampler="grid")
    assert [trial.tried["train.schedule"] for trial in result.trials][0] == "cosine" and len(FakeWorker.made) == 2
    assert {trial.tried["train.schedule"] for trial in result.trials} == {"cosine", "linear"}


def test_workers_share_the_cores(tmp_path: Path) -> None:
    recipe = "base_model: base\ndata: rows.jsonl\ntrain: {learning_rate: 1e-4, steps: 100, adapter: {r: 8}}\n"
    result = Bench(tmp_path, recipe=recipe).search(workers=64, trials=5)
    assert {worker.asked["plan"]["train"]["threads"] for worker in FakeWorker.made} == {1}
    assert len(result.trials) == 6 and result.finished


def test_everything_lies_in_the_folder(tmp_path: Path) -> None:
    result = Bench(tmp_path).search(trials=5)
    out = tmp_path / "out"
    names = {"report.md", "best.yaml", "history.svg", "importance.svg", "parallel.svg", "search-result.json"}
    assert names <= {path.name for path in out.iterdir()}
    report = (out / "report.md").read_text()
    assert result.conclusion in report and "The test split is not looked at" in report
    assert all(f"({name})" in report for name in names if name.endswith(".svg"))
    assert (out / "history.svg").read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert abs(sum(result.importance.values()) - 1) < 1e-6
    assert max(result.importance, key=result.importance.get) == "train.learning_rate"
    assert (
        read_yaml(result.recipe).value["train"]["learning_rate"]
        == result.trial(result.best).tried["train.learning_rate"]
    )


def test_a_spent_budget_stops_what_is_under_way_and_can_be_gone_on_with(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    FakeWorker.waits = (0,)
    result = bench.search(budget_s=4.0)
    assert [trial.state for trial in result.trials] == ["unfinished"] and FakeWorker.made[0].stopped
    assert result.best is None and result.recipe is None and "--resume" in result.conclusion
    FakeWorker.waits = ()
    assert bench.search(resume=True, trials=1).finished


def test_a_search_that_fails_before_its_first_trial_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        bench.search(overrides=("data=rovs.jsonl",))
    with pytest.raises(RecipeError, match="no validation rows"):
        bench.search(overrides=("data.split.validation=0",))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / ".git").mkdir(parents=True)
    with pytest.raises(RecipeError, match="no validation rows"):
        bench.search(overrides=("data.split.validation=0",))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".git"], "what is not the search's own stays"


def test_a_combination_that_the_recipe_refuses_is_a_failed_trial(tmp_path: Path) -> None:
    space = "search_space:\n  train.ema_decay: {type: choice, values: [null, 0.9]}\n"
    space += "  train.optimizer: {type: choice, values: [schedule_free, adamw]}\n"
    recipe = RECIPE.replace("threads: 1", "threads: 1, schedule: constant")
    result = Bench(tmp_path, space, recipe).search(sampler="grid")
    (refused,) = [trial for trial in result.trials if trial.state == "failed"]
    assert refused.tried == {"train.ema_decay": 0.9, "train.optimizer": "schedule_free"} and refused.why
    assert result.finished and len(result.trials) == 5


def test_a_trial_that_was_cut_goes_on_with_the_plan_it_had(tmp_path: Path) -> None:
    recipe = RECIPE.replace(", threads: 1", "")
    bench = Bench(tmp_path, recipe=recipe)
    FakeWorker.breaks_at = 2
    with pytest.raises(Interrupted):
        bench.search(workers=64)
    again = bench.search(resume=True)
    cut = [worker.asked["plan"]["train"] for worker in FakeWorker.made if worker.trial == 2]
    assert len(cut) == 2 and cut[0] == cut[1] and again.finished


def test_a_training_that_does_not_stop_is_killed_when_the_budget_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.jobs.search.trials.STOP_S", 0.1)
    bench = Bench(tmp_path)
    FakeWorker.waits = FakeWorker.deaf = (0,)
    result = bench.search(budget_s=2.0)
    assert FakeWorker.made[0].killed and [trial.state for trial in result.trials] == ["unfinished"]
