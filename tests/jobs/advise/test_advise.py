"""Advice on rows that can be learnt, and on rows that cannot, measured with a tiny model."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.tiny_run import luthier

from luthier.advise.verdict.prices import Prices
from luthier.core.artifacts import Base
from luthier.core.errors import DataError
from luthier.jobs.advise.advise import Wanted, advise
from luthier.jobs.advise.kept import RESULTS, keep_advice, kept_advice, key_of_call
from luthier.model.tiny import save_tiny
from luthier.recipe import Recipe

ROWS = 150


def rows_of(*, random_labels: bool) -> list[dict[str, str]]:
    draw = random.Random(3)
    words = {"yes": "abcde", "no": "vwxyz"}
    rows = []
    for number in range(ROWS):
        label = ("yes", "no")[number % 2]
        text = " ".join("".join(draw.choices(words[label], k=4)) for _ in range(6))
        rows.append({"text": text, "label": draw.choice(("yes", "no")) if random_labels else label})
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("advise")
    save_tiny(folder / "base", "llama")
    write(folder / "learnable.jsonl", rows_of(random_labels=False))
    write(folder / "random.jsonl", rows_of(random_labels=True))
    (folder / "documents").mkdir()
    (folder / "documents" / "a.md").write_text("abcd means yes.\n\nvwxy means no.\n")
    return folder


def wanted(home: Path, name: str, **changes) -> Wanted:
    words = {"files": (str(home / f"{name}.jsonl"),), "out": home / name, "base_models": (str(home / "base"),)}
    return Wanted(**(words | {"budget_s": 300.0, "overrides": ("train.threads=1",)} | changes))


@pytest.fixture(scope="module")
def learnable(home):
    return advise(wanted(home, "learnable", documents=home / "documents", goal="Say yes or no."), lambda event: None)


def test_all_alternatives_are_measured_on_the_same_rows(learnable) -> None:
    found = learnable.of_best
    families = {one.family for one in found.alternatives}
    assert families == {"trivial", "prompt", "few-shot", "retrieve", "head", "tune", "tune + retrieve"}
    assert {one.value.n for one in found.alternatives} == {learnable.held_out} and not found.left_out
    assert learnable.task == "classification" and learnable.metric == "accuracy"


def test_what_can_be_read_off_frozen_vectors_is_not_tuned(learnable) -> None:
    # The words of the two labels share no letter: even a random model's vectors tell them apart.
    assert learnable.choice == "head" and learnable.of_best.best.value.value > 0.9
    assert learnable.verdict.startswith("Do not fine-tune the model")
    assert all(any(letter.isdigit() for letter in reason) for reason in learnable.of_best.reasons)


def test_the_learning_curve_has_its_points(learnable) -> None:
    rows = {one.train_rows for one in learnable.of_best.alternatives if one.family == "tune"}
    assert len(rows) >= 3 and max(rows) == learnable.rows["train"]
    assert learnable.of_best.more_rows is not None and learnable.of_best.forgotten is not None


def test_the_advice_is_written_for_people_and_programs(learnable) -> None:
    folder = learnable.folder
    assert json.loads((folder / "advice.json").read_text())["choice"] == learnable.choice
    page, text = (folder / "advice.html").read_text(), (folder / "advice.md").read_text()
    assert page.count("<svg") == 2 and learnable.verdict in text and "linear head" in text
    assert "base_model" in (folder / "recipe.yaml").read_text()


def test_the_same_again_measures_nothing_and_says_the_same(home, learnable) -> None:
    heard = []
    again = advise(wanted(home, "learnable", documents=home / "documents", goal="Say yes or no."), heard.append)
    assert not [event for event in heard if event.kind == "metrics"]
    assert [event.message for event in heard if "the same was asked before" in event.message]
    assert again == learnable
    best, before = again.of_best, learnable.of_best
    assert (again.choice, best.chosen, best.reasons) == (learnable.choice, before.chosen, before.reasons)


def test_further_seeds_are_in_the_tuning_s_comparisons_and_no_alternatives_of_their_own(home, learnable) -> None:
    heard = []
    found = advise(wanted(home, "learnable", seeds=2), heard.append)
    trained = {event.message for event in heard if event.kind == "start" and event.message == "8"}
    assert trained, "one more training, with the next seed"
    names = {one.name for one in found.of_best.alternatives}
    assert names == {one.name for one in learnable.of_best.alternatives if "retriev" not in one.name}
    largest = [one for one in found.of_best.alternatives if one.train_rows == found.rows["train"]]
    assert largest and {one.trainings for one in largest} == {2}
    compared = [one for one in found.of_best.comparisons if one.a.startswith("tuned")]
    assert compared and {one.seeds for one in compared} == {2}
    assert any("over 2 trainings" in reason for reason in found.of_best.reasons)
    for name in ("advice.md", "advice.html"):
        text = (found.folder / name).read_text()
        assert "× 2 seeds" in text and "the spread of the seeds is in the comparisons" in text


def test_kept_advice_answers_the_same_call_only(home, learnable) -> None:
    given = wanted(home, "learnable", documents=home / "documents", goal="Say yes or no.")
    recipe = Recipe.model_validate({"data": {"path": str(home / "learnable.jsonl")}})
    base = Base(name="base", folder=home / "base", weights_sha256="w")
    key = key_of_call(given, recipe, [base], ["a"])
    assert key == key_of_call(replace(given, out=home / "elsewhere"), recipe, [base], ["a"])
    others = [
        key_of_call(replace(given, seeds=3), recipe, [base], ["a"]),
        key_of_call(replace(given, prices=Prices(machine_hour=3)), recipe, [base], ["a"]),
        key_of_call(given, recipe, [base], ["b"]),
        key_of_call(given, recipe, [base.model_copy(update={"weights_sha256": "v"})], ["a"]),
    ]
    with (home / "learnable.jsonl").open("a") as file:
        file.write("\n")
    others.append(key_of_call(given, recipe, [base], ["a"]))
    write(home / "learnable.jsonl", rows_of(random_labels=False))
    assert len({key, *others}) == 6


def test_advice_that_somebody_changed_is_given_anew(tmp_path: Path) -> None:
    for name in RESULTS:
        (tmp_path / name).write_text("{}")
    keep_advice(tmp_path, "k")
    assert kept_advice(tmp_path, "k") is None, "it is no advice"
    (tmp_path / "advice.json").write_text('{"a": 1}')
    assert kept_advice(tmp_path, "k") is None


def test_random_labels_are_no_reason_to_tune(home) -> None:
    found = advise(wanted(home, "random"), lambda event: None)
    assert found.choice == "data" and "better data" in found.verdict


def test_a_budget_too_small_measures_the_cheapest_and_lists_the_rest(home) -> None:
    found = advise(wanted(home, "learnable", out=home / "short", budget_s=0.01), lambda event: None)
    left_out, measured = found.of_best.left_out, {one.family for one in found.of_best.alternatives}
    assert "few-shot" in left_out and "tuning" in left_out and "trivial" in measured and "tune" not in measured


def test_too_few_rows_are_an_error_with_the_number_needed(home) -> None:
    write(home / "few.jsonl", rows_of(random_labels=False)[:30])
    with pytest.raises(DataError) as refused:
        advise(wanted(home, "few"), lambda event: None)
    assert "100" in (refused.value.hint or "") and "too few rows" in refused.value.what


def test_two_base_models_answer_the_same_rows(home) -> None:
    save_tiny(home / "other", "gpt2")
    bases = (str(home / "base"), str(home / "other"))
    found = advise(wanted(home, "learnable", out=home / "two", base_models=bases, budget_s=0.02), lambda event: None)
    assert [one.base_model for one in found.bases] == list(bases) and found.base_model in bases
    assert {one.value.n for base in found.bases for one in base.alternatives} == {found.held_out}
    assert (home / "two" / "advice.html").read_text().count("Alternatives, measured with") == 2


def test_pairs_are_compared_by_the_likelier_answer(home) -> None:
    rows = [
        {"prompt": f"Number {number}?", "chosen": f"the {number}th", "rejected": f"no {number}"}
        for number in range(ROWS)
    ]
    write(home / "pairs.jsonl", rows)
    found = advise(wanted(home, "pairs"), lambda event: None)
    assert (found.task, found.metric) == ("preference", "preference_accuracy")
    assert {one.family for one in found.of_best.alternatives} == {"prompt", "tune"} and found.choice != "head"


def test_plain_text_is_compared_by_perplexity(home) -> None:
    draw = random.Random(5)
    write(home / "text.jsonl", [{"text": " ".join(draw.choices("abcdefgh", k=20))} for _ in range(ROWS)])
    found = advise(wanted(home, "text"), lambda event: None)
    assert found.metric == "perplexity" and found.choice in ("prompt", "tune")
    tuned = [one.value.value for one in found.of_best.alternatives if one.family == "tune"]
    assert tuned and min(tuned) < next(one.value.value for one in found.of_best.alternatives if one.family == "prompt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "soon"], "this is no time"),
        (["--documents", "nowhere"], "there is no such folder"),
        (["--prices", "prices.yaml"], "these prices cannot be used"),
    ],
)
def test_bad_words_are_one_error(home, words: list[str], said: str) -> None:
    (home / "prices.yaml").write_text("machine_hour: -1\n")
    done = luthier(home, "advise", "learnable.jsonl", "--base-model", "base", *words)
    assert done.returncode not in (0, 70) and said in done.stderr and "Traceback" not in done.stderr
