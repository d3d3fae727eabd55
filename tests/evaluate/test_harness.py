"""Tasks of lm-eval on tiny models: the numbers are those of an independent count, and what is wrong shows at once."""

import json
import math
from pathlib import Path

import pytest
from tests.evaluate.test_room import Heard, trained

from luthier.core.errors import RecipeError
from luthier.evaluate import harness, room
from luthier.evaluate.harness import Tasks, check_harness, harness_sources, load_tasks
from luthier.evaluate.harness_run import TaskScore, compared, run_tasks
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.store import Encoded
from luthier.model.generate import generate
from luthier.model.load import load_model, load_tokenizer
from luthier.model.quick import quicken
from luthier.model.scoring import row_losses
from luthier.model.template import Template
from luthier.model.tiny import save_tiny
from luthier.recipe_io.read import load_recipe

pytest.importorskip("lm_eval")

ANIMALS = ("ant", "bear", "cat", "heron", "rat")
ROWS = [
    {
        "question": f"Which animal is number {n}?",
        "choices": [*ANIMALS[n % 4 :], *ANIMALS[: n % 4]],
        "gold": n % 5,
        "text": f"The {ANIMALS[n % 5]} sat on the mat and then it went on to number {n}.",
        "word": "the",
    }
    for n in range(12)
]
CHOOSE = """
task: choose_animal
dataset_path: json
dataset_kwargs: {data_files: {test: rows.json}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
READ = """
task: read_text
dataset_path: json
dataset_kwargs: {data_files: {test: rows.json}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: text
metric_list:
  - {metric: word_perplexity}
"""
WRITE = """
task: write_word
dataset_path: json
dataset_kwargs: {data_files: {test: rows.json}}
test_split: test
output_type: generate_until
doc_to_text: "Say a word after {{question}} "
doc_to_target: word
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
process_results: !function count.letters
metric_list:
  - {metric: letters, aggregation: mean, higher_is_better: true}
"""
LAST = """
task: last_word
dataset_path: json
dataset_kwargs: {data_files: {test: rows.json}}
test_split: test
output_type: loglikelihood
doc_to_text: question
doc_to_target: " {{word}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
COUNT = "def letters(doc, results):\n    return {'letters': float(len(results[0]))}\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("harness")
    (folder / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "count.py").write_text(COUNT)
    for name, text in (("choose", CHOOSE), ("read", READ), ("write", WRITE), ("last", LAST)):
        (folder / f"{name}.yaml").write_text(text)
    save_tiny(folder / "base", "llama")
    return folder


@pytest.fixture(scope="module")
def names(home) -> list[str]:
    return [str(home / f"{name}.yaml") for name in ("choose", "read", "write")]


@pytest.fixture(scope="module")
def found(home, names) -> tuple[Tasks, dict[str, TaskScore]]:
    tasks = load_tasks(names, rows=8, seed=7)
    model = quicken(load_model(home / "base"))
    return tasks, {one.task: one for one in run_tasks(tasks, model, load_tokenizer(home / "base"), resamples=200)}


def loss_of(home: Path, prompt: str, answer: str) -> float:
    tokenizer = load_tokenizer(home / "base")
    start, whole = (tokenizer.encode(text, add_special_tokens=False) for text in (prompt, prompt + answer))
    row = Encoded(whole, [place >= len(start) for place in range(len(whole))], len(start))
    return row_losses(load_model(home / "base"), [row])[0].total


def test_choices_are_those_that_our_own_losses_make(home, found) -> None:
    tasks, scores = found
    right = []
    for place in tasks.rows["choose_animal"]:
        row = ROWS[place]
        losses = [loss_of(home, f"Question: {row['question']}\nAnswer:", f" {choice}") for choice in row["choices"]]
        right.append(float(losses.index(min(losses)) == row["gold"]))
    one = scores["choose_animal"]
    assert [x for x, _ in one.per_row] == right and one.rows == 8 and one.way == "mean"
    assert one.value == pytest.approx(sum(right) / 8)
    spread = math.sqrt(sum((x - one.value) ** 2 for x in right) / 7 / 8)
    assert one.error == pytest.approx(spread)


def test_perplexity_is_that_of_our_own_losses(home, found) -> None:
    tasks, scores = found
    end = load_tokenizer(home / "base").decode([load_tokenizer(home / "base").eos_token_id])
    losses = [loss_of(home, end, ROWS[place]["text"]) for place in tasks.rows["read_text"]]
    words = sum(len(ROWS[place]["text"].split()) for place in tasks.rows["read_text"])
    one = scores["read_text"]
    assert one.way == "perplexity" and one.value == pytest.approx(math.exp(sum(losses) / words), rel=1e-4)


def test_written_answers_are_those_of_our_own_generator(home, found) -> None:
    tasks, scores = found
    template = Template(load_tokenizer(home / "base"))
    texts = [f"Say a word after {ROWS[place]['question']} " for place in tasks.rows["write_word"]]
    prompts = [template.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    answers = generate(load_model(home / "base"), template, prompts, max_new_tokens=6)
    said = [float(len(answer.text.partition("\n")[0])) for answer in answers]
    assert [x for x, _ in scores["write_word"].per_row] == said


def test_the_same_model_twice_is_no_difference(found) -> None:
    _, scores = found
    made = compared(list(scores.values()), [list(scores.values())], resamples=200, seed=7)
    assert [one.task for one in made] == ["choose_animal", "read_text", "write_word"]
    for one in made:
        assert one.untuned == one.tuned and one.comparison is not None and one.comparison.difference == 0
        assert one.comparison.verdict.startswith("no detectable difference")
    assert made[0].comparison.metric == "acc" and "acc +0.000" in made[0].comparison.verdict


def test_several_trainings_are_compared_by_their_mean(found) -> None:
    _, scores = found
    before = scores["choose_animal"]
    right = tuple((1.0, 1.0) for _ in before.per_row)
    better = before.model_copy(update={"value": 1.0, "per_row": right})
    made = compared([before], [[better], [before]], resamples=400, seed=7)[0]
    assert made.tuned == 1.0 and made.comparison.seeds == 2
    assert made.comparison.difference == pytest.approx((1.0 - before.value) / 2)


def test_what_rows_cannot_say_is_not_compared(found) -> None:
    _, scores = found
    before = scores["choose_animal"]
    less = before.model_copy(update={"higher_is_better": False})
    whole = before.model_copy(update={"way": "", "per_row": ()})
    made = compared([less, whole], [[less, whole]], resamples=200, seed=7)
    assert [one.comparison for one in made] == [None, None]


def test_the_report_holds_the_tasks_of_both_models(home, names, tmp_path: Path) -> None:
    given, heard = trained(tmp_path, "closed"), Heard()
    spec = EvaluateSpec(resamples=200, max_new_tokens=4, harness=tuple(names), baselines=(), max_rows=8)
    report = room.run(spec, given, tmp_path / "evaluate", heard, seed=7)
    assert [(one.task, one.rows, one.tuned == one.untuned) for one in report.harness] == [
        ("choose_animal", 8, True),
        ("read_text", 8, True),
        ("write_word", 8, True),
    ]
    assert report.harness[0].untuned_error > 0 and report.harness[1].untuned_error is None
    for name in ("report.md", "report.html"):
        text = (tmp_path / "evaluate" / name).read_text()
        assert "Tasks of lm-eval" in text and "choose" in text and "no detectable difference: acc" in text
    assert [note for note in heard.messages("note") if "24 rows of 3 tasks" in note]


def test_nothing_is_said_on_the_streams_where_the_library_resamples(home, capsys) -> None:
    tasks = load_tasks([str(home / "last.yaml")], rows=8, seed=7)
    model, tokenizer = load_model(home / "base"), load_tokenizer(home / "base")
    capsys.readouterr()
    surprise, right = run_tasks(tasks, model, tokenizer, resamples=200)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "") and right.way == "mean"
    losses = [loss_of(home, ROWS[place]["question"], " the") for place in tasks.rows["last_word"]]
    assert surprise.way == "perplexity" and surprise.value == pytest.approx(math.exp(sum(losses) / 8), rel=1e-4)
    assert surprise.error > 0


def test_a_missing_package_is_named_with_what_installs_it(names, monkeypatch) -> None:
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as refused:
        check_harness(names)
    assert "pip install 'luthier[lm-eval]'" in str(refused.value)


def test_an_unknown_task_is_answered_with_the_nearest(monkeypatch) -> None:
    from lm_eval.tasks import TaskManager

    known = TaskManager(include_defaults=False, include_path=[])
    known._index = {"arc_easy": None, "arc_challenge": None}
    known._all_tasks = sorted(known._index)
    monkeypatch.setattr(harness, "_manager", lambda built_in: known)
    with pytest.raises(RecipeError) as refused:
        check_harness(["arc_eazy"])
    assert "arc_eazy" in refused.value.what and "arc_easy" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHOOSE.replace("rows.json", "gone.json"), "cannot be loaded"),
        (CHOOSE.replace("acc,", "no_such_metric,"), "measures nothing"),
        (WRITE.replace("count.letters", "count.nothing"), "count"),
        ("- a list", "cannot be read"),
        (CHOOSE + "unsafe_code: true\n", "refused"),
    ],
    ids=["data", "metric", "function", "no task", "unsafe"],
)
def test_a_broken_task_file_is_one_error_before_the_work(home, text: str, said: str) -> None:
    path = home / "broken.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as refused:
        check_harness([str(path)])
    assert said in str(refused.value) and {"field", "file"} & set(refused.value.where)


def test_a_missing_task_file_is_named() -> None:
    with pytest.raises(RecipeError, match="no such task file"):
        check_harness(["nowhere/task.yaml"])


def test_a_task_is_another_one_once_its_files_change(home, names) -> None:
    before = harness_sources(names)
    assert before == harness_sources(names)
    (home / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n")
    assert harness_sources(names) != before


def test_task_files_count_from_the_recipe_s_folder(home) -> None:
    recipe = home / "recipe.yaml"
    (home / "data.jsonl").write_text('{"text": "a"}\n')
    recipe.write_text("data: {path: data.jsonl}\nevaluate: {harness: [choose.yaml, arc_easy]}\n")
    assert load_recipe(recipe).evaluate.harness == (str(home / "choose.yaml"), "arc_easy")
