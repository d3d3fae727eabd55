"""Metrics of the user's own, from the recipe to the report."""

import json
from pathlib import Path

import pytest
from tests.evaluate.test_room import Heard, trained

from luthier.core.artifacts import Report
from luthier.core.errors import RecipeError
from luthier.evaluate import room
from luthier.evaluate.spec import EvaluateSpec, UserMetric
from luthier.evaluate.user import check_user_metrics, sources_of
from luthier.recipe_io.read import load_recipe, recipe_yaml
from luthier.score.user_metric import UserMetricError

LENGTH = "def score(prompt, answer, reference, row):\n    return 5.0 if row['file'] == 'colours.jsonl' else 1 / 0\n"
CLOSED_SPEC = EvaluateSpec(resamples=200, max_new_tokens=4, baselines=("zero-shot",))


def spec_with(*metrics: UserMetric, **changes: object) -> EvaluateSpec:
    return CLOSED_SPEC.model_copy(update={"user_metrics": metrics, **changes})


def evaluated(folder: Path, spec: EvaluateSpec) -> tuple[Report, Path]:
    out = folder / "evaluate"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "data").mkdir()
    return room.run(spec, trained(folder / "run", "closed"), out, Heard(), seed=7), out


def test_they_are_measured_compared_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "five.py"
    file.write_text(LENGTH)
    command = UserMetric(name="one.two", command="while read -r line; do echo 2; done")
    spec = spec_with(UserMetric(name="five", python=str(file)), command)
    report, out = evaluated(tmp_path, spec)
    assert report.primary_metric == "accuracy"
    assert all(system.metrics["five"].value == 5 and system.metrics["one.two"].n == 9 for system in report.systems)
    assert {one.metric for one in report.comparisons} >= {"accuracy", "five", "one.two"}
    assert "five" in (out / "report.md").read_text() and "one.two" in (out / "report.html").read_text()
    sample = json.loads((out / "samples.jsonl").read_text().splitlines()[0])
    assert sample["answers"]["tuned"]["scores"]["five"] == 5

    # Where nothing else judges the answers, the user's own decides.
    alone, _ = evaluated(tmp_path / "alone", spec.model_copy(update={"metrics": ()}))
    assert alone.primary_metric == "five" and "five 5.000" in alone.conclusion


def test_a_mistake_shows_before_the_models_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.evaluate.room.load_model", lambda _: pytest.fail("a model was loaded"))
    file = tmp_path / "broken.py"
    file.write_text(LENGTH.replace("colours", "others"))
    with pytest.raises(UserMetricError, match="ZeroDivisionError") as caught:
        evaluated(tmp_path, spec_with(UserMetric(name="broken", python=str(file))))
    assert caught.value.where["row"].startswith("colours.jsonl:")


def test_files_count_from_the_recipe_and_a_changed_file_is_another_metric(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: rows.jsonl\nevaluate:\n  user_metrics: [{name: mine, python: mine.py}]\n")
    spec = load_recipe(recipe).evaluate
    assert spec.user_metrics[0].python == str(tmp_path / "mine.py")
    with pytest.raises(RecipeError, match="no file for the metric `mine`"):
        check_user_metrics(spec)
    (tmp_path / "mine.py").write_text(LENGTH)
    check_user_metrics(spec)
    before = sources_of(spec)
    (tmp_path / "mine.py").write_text(LENGTH + "\n")
    assert sources_of(spec) != before and len(before) == 1
    saved = tmp_path / "again" / "recipe.yaml"
    saved.parent.mkdir()
    saved.write_text(recipe_yaml(load_recipe(recipe)))
    assert load_recipe(saved).evaluate == spec


@pytest.mark.parametrize(
    ("metrics", "what"),
    [
        ("[{name: a}]", "either `python` or `command`"),
        ("[{name: a, python: a.py, command: wc}]", "either `python` or `command`"),
        ("[{name: bleu, command: wc}]", "another metric called `bleu`"),
        ("[{name: a, command: wc}, {name: a, command: wc}]", "another metric called `a`"),
        ("[{name: 'a b', command: wc}]", "name"),
        ("[{nam: a, command: wc}]", "unknown key `nam`"),
        ("[{name: a, command: wc, timeout_s: 0}]", "timeout_s"),
    ],
)
def test_what_a_recipe_cannot_say(tmp_path: Path, metrics: str, what: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: rows.jsonl\nevaluate: {{user_metrics: {metrics}}}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert what in str(caught.value) and "line" in caught.value.where
